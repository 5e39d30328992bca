/** What a job names, looked up before the job is taken. */
import type { LoraSettings } from "../api/settings.ts";
import { within } from "../errors.ts";
import { chooseModelFiles } from "../hub/model_files.ts";
import { isHubName, parseHubName } from "../hub/name.ts";
import { checkPatterns, targetedModules } from "../model/adapter_modules.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { weightSpecs } from "../model/modules.ts";
import { Checkpoint } from "../model/safetensors.ts";
import { checkSavedNames } from "../model/saved_modules.ts";
import { storedDtype } from "../model/weights.ts";
import { checkDataset, type FileSources, hubOf, resolveModel } from "./files.ts";
import type { JobSpec } from "./spec.ts";

/**
 * Reads a model's configuration and its weights' headers, and looks for the modules that are to be trained.
 *
 * @throws InputError where they cannot be used
 */
async function checkModel(folder: string, lora: LoraSettings | null): Promise<void> {
  const config = await readModelConfig(folder);
  using checkpoint = await Checkpoint.open(folder);
  for (const spec of weightSpecs(config)) storedDtype(checkpoint, spec);
  // An adapter to go on from has modules of its own.
  if (lora?.init_adapter === null) checkModules(config, lora);
}

/** @throws InputError naming the request's field where modules match nothing */
function checkModules(config: ModelConfig, lora: LoraSettings): void {
  within(["lora"], () => {
    const { modules_to_save } = checkSavedNames(config, lora);
    checkPatterns(targetedModules(config, lora.target_modules, modules_to_save), lora);
  });
}

/** What a job names: its files, and with `settings` the modules of its model. */
interface JobNames extends Pick<JobSpec, "model" | "dataset" | "eval_dataset"> {
  readonly settings?: Pick<JobSpec["settings"], "lora">;
}

/**
 * Looks up what a job names without downloading more than the hub's lists of files, or reading more of local weights than
 * their headers. A model of the hub is not looked into.
 *
 * @throws InputError naming the field
 */
export async function checkFiles(
  sources: FileSources,
  { model, dataset, eval_dataset, settings }: JobNames,
): Promise<void> {
  if (isHubName(model)) {
    await within(["model"], async () => {
      const name = parseHubName(model, "model");
      chooseModelFiles(await hubOf(sources.hub).list(name), name.repository);
    });
  } else {
    const folder = await within(["model"], () => resolveModel(sources, model));
    await checkModel(folder, settings?.lora ?? null);
  }
  for (const [field, rows] of Object.entries({ dataset, eval_dataset })) {
    if (rows === null) continue;
    await within([field], () => checkDataset(sources, rows));
  }
}
