/** `main.ts plan`: what a job needs of the device's memory, without reading weights or rows. */
import { COMMANDS } from "../commands.ts";
import { type Config, type Environment, readConfig } from "../config.ts";
import { InputError, within } from "../errors.ts";
import { largestTensor } from "../gpu/paper_device.ts";
import { resolveModelConfig } from "../jobs/files.ts";
import { largestRank } from "../model/adapter_modules.ts";
import { readModelConfig } from "../model/config.ts";
import { storedDtypes } from "../model/weights.ts";
import { mostTokens } from "../model/pass_layers.ts";
import { planMemory } from "../training/memory_plan.ts";
import { parseCommand } from "./_arguments.ts";
import { checkRoot, deviceOptions, type StartEngine } from "./_command.ts";
import { readJob } from "./_job_file.ts";
import { openHub } from "./_hub.ts";
import { planTable } from "./_plan.ts";

/** What NVIDIA's driver lets a shader bind. */
const TYPICAL_LIMITS = { maxStorageBufferBindingSize: 2 ** 31 - 4, maxBufferSize: 2 ** 31 - 4 };

/**
 * Plans a job file for rows as long as its max_length lets through: on this machine's device, or where none answers on a
 * GPU of usual limits. Of the model `config.json` is enough; where weights are not there they are taken to be bf16.
 *
 * @param args `[--json] job.json`; with `--json` every layout that fits, the best first
 * @param environment where settings are read from
 * @returns the exit code 0
 * @throws InputError with the figures where the job does not fit
 */
export async function plan(
  args: readonly string[],
  startEngine: StartEngine,
  environment: Environment = Deno.env,
): Promise<number> {
  const parsed = parseCommand("plan", COMMANDS.plan, args);
  if (parsed === null) return 0;
  const { values, files } = parsed;
  const config = readConfig(environment);
  await checkRoot(config);
  const { model, settings } = (await readJob(files[0] ?? "")).spec;
  const hub = openHub(config);
  const folder = await within(["model"], () => resolveModelConfig({ ...config, hub }, model));
  const modelConfig = await readModelConfig(folder);
  for (const warning of modelConfig.warnings) console.error(warning);
  const max_length = Math.min(settings.max_length, modelConfig.context_length);
  const { maxTensorBytes, available } = await findDevice(config, startEngine);
  const planned = { config: modelConfig, stored: await storedDtypes(folder), maxTensorBytes };
  const most = mostTokens(planned, modelConfig, largestRank(settings.lora));
  const largest = Math.min(2 * max_length, most);
  const plans = planMemory(planned, { ...settings, max_length }, largest, available);
  if (2 * max_length > most) {
    console.error(
      `A row may take ${2 * max_length} tokens here, and this device binds ${most}: longer rows end the job.`,
    );
  }
  console.log(values.json ? JSON.stringify(plans, null, 2) : planTable(plans));
  return 0;
}

async function findDevice(
  config: Config,
  startEngine: StartEngine,
): Promise<{ maxTensorBytes: number; available: number | null }> {
  try {
    const engine = await startEngine(deviceOptions(config));
    try {
      const { limits } = await engine.call("device", null);
      const { free_bytes } = await engine.call("memory", null);
      return { maxTensorBytes: largestTensor({ ...TYPICAL_LIMITS, ...limits }), available: free_bytes };
    } finally {
      await engine.stop();
    }
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    console.error(
      "No GPU answers here: this is the plan for one of usual limits; SIMPO_DEVICE=software plans for the software driver.",
    );
    return { maxTensorBytes: largestTensor(TYPICAL_LIMITS), available: config.memoryBytes };
  }
}
