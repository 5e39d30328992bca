/**
 * One training run from top to bottom: rows, model, steps, checkpoints, result.
 *
 * @module
 */
import { join } from "node:path";
import { InputError, Interrupted } from "../errors.ts";
import { GpuMemoryError, withRoom } from "../gpu/mod.ts";
import type { Decoder } from "../model/decoder.ts";
import { copyTokenizer } from "../model/tokenizer_files.ts";
import { objectiveOf } from "../objective/mod.ts";
import type { Objective } from "../objective/objective.ts";
import { savedModules } from "../model/saved_modules.ts";
import { storedDtypes } from "../model/weights.ts";
import { readTemplates } from "../preference/template_files.ts";
import { checkSeen, settleChanges, warnOfRewritten } from "./changes.ts";
import { findCheckpoint, newestStep, type RunState } from "./checkpoint.ts";
import { pause, type TrainingHost } from "./host.ts";
import { type Data, readData } from "./data.ts";
import { fingerprintsOf } from "./fingerprint.ts";
import { type MemoryPlan, planMemory, type RunShape } from "./memory_plan.ts";
import { publish } from "./publish.ts";
import type { TrainEvent, TrainOutcome, TrainRequest } from "./request.ts";
import { type RunParts, TrainingLoop } from "./loop.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { savedFiles, type Trainable, trainableWeights } from "./trainable.ts";
import { trainableLora } from "./trainable_lora.ts";

const UNTIED = {
  type: "warning",
  message:
    "modules_to_save names the embedding or the head, which this model ties: they come apart, as in PEFT. " +
    "With ensure_weight_tying true they are trained as one.",
} as const;

/**
 * Runs or resumes a training job in `request.directory`.
 *
 * @param objective the one of the request's method unless given (tests)
 * @returns how it ended; `stopped` leaves a checkpoint to go on from
 * @throws {InputError} where rows, model or settings are at fault
 */
export async function train(
  host: TrainingHost,
  request: TrainRequest,
  objective: Objective = objectiveOf(request.settings.method),
): Promise<TrainOutcome> {
  const checkpoints = join(request.directory, "checkpoints");
  const warn = (message: string) => host.emit({ type: "warning", message });
  const between = everyFew(20, () => pause(host));
  let resumed: RunState | null = null;
  let trainable: Trainable | null = null;
  let run: TrainingLoop | null = null;
  let data: Data | null = null;
  let early: Promise<Decoder | null> = Promise.resolve(null);
  const over = new AbortController();
  try {
    const found = await findCheckpoint(checkpoints, savedFiles(request.settings), warn, between);
    const resume = found?.path ?? null;
    resumed = found?.state ?? null;
    const now = await fingerprintsOf(request, between);
    const settled = await settleChanges(request, found, now, warn);
    host.emit({ type: "settled" });
    const settings = withinContext(request.settings, host);
    data = await readData(host, request, settings, () => {
      early = loadEarly(host, request, settings, over.signal);
      early.catch(() => {}); // heard of when the rows are tokens
    });
    checkSeen(request, found, { tokens: data.checksum }, warn);
    const loaded = await early; // what it takes of the device is known then
    const plans = await planRun(host, request, settings, data.largest, resumed?.shape ?? null);
    host.emit({ type: "plan", plan: plans[0]! });
    const plain = settings.lora
      ? await trainableLora(host.gpu, loaded ?? await host.loadBase(over.signal), settings.lora, {
        model: request.model,
        base: request.base,
        seed: settings.seed,
        init: request.init_adapter,
        resume,
      })
      : await trainableWeights(
        host.gpu,
        request.model,
        settings.save_dtype,
        resume,
        (progress) => host.onLoad(progress),
      );
    if (settings.lora && savedModules(host.config, settings.lora).untied) host.emit(UNTIED);
    for (const message of plain.warnings ?? []) warn(message);
    const checksum = settings.lora ? host.baseChecksum?.() ?? null : null;
    checkSeen(request, found, { loaded: checksum }, warn);
    warnOfRewritten(found, now, "rows", warn);
    if (checksum === null || !found?.state.fingerprints?.loaded) warnOfRewritten(found, now, "weights", warn);
    // what is not seen now is as it was, unless it may be another
    const known = request.accept_changes ? null : resumed?.fingerprints?.loaded ?? null;
    const fingerprints = { ...settled, tokens: data.checksum, loaded: checksum ?? known };
    const named = settings.chat_template;
    const template = named && ((await readTemplates(request.model))?.get(named) ?? named);
    trainable = withTokenizer(request.model, template, plain);
    run = await allocateRun(host, plans, {
      settings,
      objective,
      data,
      trainable,
      checkpoints,
      resumed,
      fingerprints,
    });
    if (resume) await run.restore(resume);
    await run.prepare(request.directory);
    await run.steps();
    await publish(trainable, join(request.directory, "result"));
    return { outcome: "succeeded", step: run.step };
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    if (error.how === "stop") await run?.save();
    else await run?.logged();
    return {
      outcome: error.how === "stop" ? "stopped" : "cancelled",
      step: run?.step ?? resumed?.step ?? await newestStep(checkpoints),
    };
  } finally {
    over.abort();
    await early.catch(() => {});
    run?.free();
    trainable?.free();
    data?.[Symbol.dispose]();
  }
}

/** Calls something at most every so many milliseconds. */
function everyFew(milliseconds: number, work: () => Promise<void>): () => Promise<void> {
  let last = performance.now();
  return async () => {
    if (performance.now() - last < milliseconds) return;
    await work();
    last = performance.now();
  };
}

/** Lengths past the model's context are cut down to it, with a warning. */
function withinContext(settings: TrainingSettings, host: TrainingHost): TrainingSettings {
  const context = host.config.context_length;
  if (settings.max_length <= context) return settings;
  host.emit({
    type: "warning",
    message: `max_length ${settings.max_length} is cut to the model's context of ${context} tokens.`,
  });
  return { ...settings, max_length: context };
}

/**
 * Loads the frozen weights while a large data set is tokenised, unless the device has no room for the job even with the
 * shortest rows: that is refused with its figures once the rows are known.
 */
async function loadEarly(
  host: TrainingHost,
  request: TrainRequest,
  settings: TrainingSettings,
  signal: AbortSignal,
): Promise<Decoder | null> {
  if (!settings.lora) return null; // full fine-tuning has its gradients made with its weights
  try {
    await planRun(host, request, settings, 1, null);
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
  return signal.aborted ? null : await host.loadBase(signal);
}

/**
 * How the run may be laid out in memory, the best way first.
 *
 * @param kept how it was before it was interrupted
 * @throws {InputError} with the figures where the device has no room for it
 */
async function planRun(
  host: TrainingHost,
  { model }: TrainRequest,
  settings: TrainingSettings,
  largest: number,
  kept: RunShape | null,
): Promise<MemoryPlan[]> {
  const { gpu, config } = host;
  const planned = { config, stored: await storedDtypes(model), maxTensorBytes: gpu.maxTensorBytes };
  const [wanted] = planMemory(planned, settings, largest, null, kept);
  return planMemory(planned, settings, largest, await host.room(wanted!.total_bytes), kept);
}

function isOfShape(plan: MemoryPlan, shape: RunShape): boolean {
  return plan.micro_batch_tokens === shape.micro_batch_tokens &&
    plan.activation_recomputation === shape.activation_recomputation;
}

function otherShape(now: RunShape, before: RunShape): TrainEvent {
  const textOf = ({ micro_batch_tokens, activation_recomputation }: RunShape) =>
    `${micro_batch_tokens} tokens and activations ${activation_recomputation ? "recomputed" : "kept"}`;
  return {
    type: "warning",
    message: `The run goes on with micro-batches of ${textOf(now)}, not of ${textOf(before)} as before: ` +
      "its numbers may differ in their last digits.",
  };
}

/** Makes the run in the first way for which the driver has room. @throws {GpuMemoryError} where there is none */
async function allocateRun(
  host: TrainingHost,
  plans: readonly MemoryPlan[],
  parts: RunParts,
): Promise<TrainingLoop> {
  const { gpu } = host;
  for (const [i, plan] of plans.entries()) {
    if (i > 0) host.emit({ type: "plan", plan });
    try {
      const run = await withRoom(
        () => host.makeRoom(),
        () => gpu.allocate(() => new TrainingLoop(host, plan, parts)),
      );
      const before = parts.resumed?.shape;
      if (before && !isOfShape(plan, before)) host.emit(otherShape(plan, before));
      return run;
    } catch (error) {
      if (!(error instanceof GpuMemoryError) || i === plans.length - 1) throw error;
    }
  }
  throw new Error("A run without a plan.");
}

/**
 * With the tokenizer beside what is saved, which whoever uses the weights needs.
 *
 * @param template the one that was trained with; null for the model's own
 */
function withTokenizer(model: string, template: string | null, trainable: Trainable): Trainable {
  const also = (save: Trainable["save"]) => async (directory: string) => {
    const checksums = await save(directory);
    await copyTokenizer(model, directory, { template });
    return checksums;
  };
  return { ...trainable, save: also(trainable.save), publish: also(trainable.publish) };
}
