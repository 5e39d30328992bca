/**
 * What a training run needs of the device's memory, counted before anything is loaded by the very functions that make
 * its buffers later.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { bytesText, PaperDevice } from "../gpu/mod.ts";
import { MATMUL_SCRATCH_BYTES } from "../gpu/ops/matmul.ts";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { largestRank } from "../model/adapter_modules.ts";
import type { ModelConfig } from "../model/config.ts";
import type { StoredDtype } from "../model/declared_weights.ts";
import { declareDecoder } from "../model/loading.ts";
import { mostTokens, passLayers } from "../model/pass_layers.ts";
import { objectiveOf } from "../objective/mod.ts";
import { windowBuffers } from "./metric_window.ts";
import { optimizerBuffers } from "./optimizer.ts";
import { stepBuffers } from "./step.ts";
import type { LoraSettings, TrainingSettings } from "../api/settings.ts";
import { adapterConfig, declareLora } from "./lora_adapter.ts";

/** What memory is for, with what a message says of it. */
const PARTS = {
  weights: "frozen weights",
  parameters: "trained parameters",
  gradients: "their gradients",
  moments: "AdamW's moments",
  activations: "activations",
  head: "head",
  scratch: "scratch",
  other: "other",
} as const;

/** One of the things that memory is for. */
export type MemoryPart = keyof typeof PARTS;
const MEMORY_PARTS = Object.keys(PARTS) as readonly MemoryPart[];

/** What can be chosen of a run without changing what it learns. */
export interface RunShape {
  /** Tokens of a packed micro-batch. */
  readonly micro_batch_tokens: number;
  readonly activation_recomputation: boolean;
}

/** What a run needs, and with which choice. */
export interface MemoryPlan extends RunShape {
  readonly bytes: Readonly<Record<MemoryPart, number>>;
  readonly total_bytes: number;
  /** What the device has for it; null where it does not tell. */
  readonly available_bytes: number | null;
}

/** A model before its weights are read, and the device that is to hold it. */
export interface PlannedModel {
  readonly config: ModelConfig;
  readonly stored: StoredDtype;
  /** Largest number of bytes that one tensor may have. */
  readonly maxTensorBytes: number;
}

/** Settings that a plan depends on. */
export type PlannedSettings = Pick<
  TrainingSettings,
  "method" | "lora" | "quantization" | "max_length" | "micro_batch_tokens" | "activation_recomputation"
>;

/** Settings that decide what is held, in whichever shape. */
type CountedSettings = Pick<PlannedSettings, "method" | "lora" | "quantization">;

/** Tokens of a micro-batch that is worth its launches, where nothing is said. */
const DEFAULT_TOKENS = 2048;
/** Smaller ones do not keep a device busy: recomputing costs less than they do. */
const SMALL_TOKENS = 512;
/** At most what the parameters of a block's dispatches take; the choice leaves room for them. */
const PROGRAM_BYTES = 64 * 2 ** 10;

/** Bytes of every part, from an account's. */
export function memoryParts(byPart: Readonly<Record<string, number>>): Record<MemoryPart, number> {
  const none = Object.fromEntries(MEMORY_PARTS.map((part) => [part, 0]));
  return { ...none, ...byPart } as Record<MemoryPart, number>;
}

/**
 * Counts what a run of this shape holds, the base model's weights among it; not the parameters of its dispatches, a few
 * KiB a block.
 *
 * @throws {InputError} where a weight is missing or is too large for a tensor
 * @throws {RangeError} where a micro-batch passes mostTokens()
 */
function countMemory(
  { config, stored, maxTensorBytes }: PlannedModel,
  { method, lora, quantization }: CountedSettings,
  { micro_batch_tokens: tokens, activation_recomputation: recompute }: RunShape,
): Record<MemoryPart, number> {
  const paper = new PaperDevice(maxTensorBytes);
  const base = declareDecoder(paper, config, stored, { trainable: lora === null, quantization });
  const { decoder, trained } = lora
    ? declareLora(paper, base.decoder, adapterConfig(lora, config, null))
    : base;
  const budget = { tokens, rows: tokens, sequences: tokens };
  passLayers(paper, decoder, budget, { mode: "train", recompute });
  stepBuffers(paper, objectiveOf(method), tokens);
  windowBuffers(paper, objectiveOf(method));
  optimizerBuffers(paper, trained!.segments);
  return memoryParts(paper.memory.byPart());
}

/**
 * Shapes that a run may have, the fastest first: without recomputation before with it, larger micro-batches before
 * smaller ones. What the settings give is not up for choice.
 *
 * @param largest tokens of the largest row, which a micro-batch must hold
 */
export function runShapes(
  { config, maxTensorBytes }: Omit<PlannedModel, "stored">,
  { lora, max_length, micro_batch_tokens, activation_recomputation: recompute }: PlannedSettings,
  largest: number,
): RunShape[] {
  const most = mostTokens({ maxTensorBytes }, config, largestRank(lora));
  const wanted = micro_batch_tokens ?? Math.max(DEFAULT_TOKENS, 2 * max_length);
  const sizes = [Math.max(largest, Math.min(wanted, most))];
  if (micro_batch_tokens === null) {
    while (sizes.at(-1)! > largest) sizes.push(Math.max(largest, Math.floor(sizes.at(-1)! / 2)));
  }
  const shapes = (activation_recomputation: boolean, sizes: readonly number[]) =>
    sizes.map((micro_batch_tokens) => ({ micro_batch_tokens, activation_recomputation }));
  if (recompute !== "auto") return shapes(recompute, sizes);
  const worth = sizes.filter((size, i) => i === 0 || size >= SMALL_TOKENS);
  return [...shapes(false, worth), ...shapes(true, sizes)];
}

/**
 * The shapes of a run that the device has room for, the best first; all of them where it does not tell.
 *
 * @param available bytes that the run may take, its base model's weights among them; null: not known
 * @param kept the shape that a resumed run had, which goes first
 * @throws {InputError} with the figures where it has room for none
 */
export function planMemory(
  model: PlannedModel,
  settings: PlannedSettings,
  largest: number,
  available: number | null,
  kept: RunShape | null = null,
): MemoryPlan[] {
  const shapes = runShapes(model, settings, largest);
  const most = mostTokens(model, model.config, largestRank(settings.lora));
  if (kept && kept.micro_batch_tokens >= largest && kept.micro_batch_tokens <= most) shapes.unshift(kept);
  const plans = shapes.map((shape) => planOf(model, settings, shape, available));
  if (available === null) return plans;
  const programs = PROGRAM_BYTES * (model.config.num_hidden_layers + 1) + MATMUL_SCRATCH_BYTES;
  const roomy = plans.filter((plan) => plan.total_bytes + programs <= available);
  if (roomy.length > 0) return roomy;
  const fitting = plans.filter((plan) => plan.total_bytes <= available);
  if (fitting.length > 0) return fitting;
  const least = plans.reduce((a, b) => b.total_bytes < a.total_bytes ? b : a);
  throw tooLarge(least, available, remedies(model, settings, largest, available));
}

function planOf(
  model: PlannedModel,
  settings: CountedSettings,
  shape: RunShape,
  available_bytes: number | null,
): MemoryPlan {
  const bytes = countMemory(model, settings, shape);
  const total_bytes = Object.values(bytes).reduce((sum, part) => sum + part, 0);
  const { micro_batch_tokens, activation_recomputation } = shape;
  return { micro_batch_tokens, activation_recomputation, bytes, total_bytes, available_bytes };
}

function tooLarge(
  { bytes, total_bytes, ...shape }: MemoryPlan,
  available: number,
  remedies: readonly string[],
): InputError {
  const parts = MEMORY_PARTS.filter((part) => bytes[part] > 0)
    .sort((a, b) => bytes[b] - bytes[a])
    .map((part) => `${PARTS[part]} ${bytesText(bytes[part])}`);
  const how = `${shape.micro_batch_tokens} tokens a micro-batch and activations ${
    shape.activation_recomputation ? "recomputed" : "kept"
  }`;
  return new InputError(
    `The job needs ${bytesText(total_bytes)} of the device's memory with ${how} (${parts.join(", ")}); ${
      bytesText(available)
    } are to be had${remedies.length > 0 ? `, enough for ${remedies.join(", or ")}` : ""}.`,
    {
      path: ["model"],
      value: bytesText(total_bytes),
      accepted: remedies.join(", or ") || "a smaller model, or a device with more memory",
    },
  );
}

/** Powers of two. */
const RANKS = Array.from({ length: 12 }, (_, i) => 2 ** (11 - i));
const PLAIN_LORA: LoraSettings = {
  r: 16,
  alpha: 32,
  dropout: 0,
  target_modules: "all-linear",
  use_rslora: false,
  modules_to_save: [],
  ensure_weight_tying: false,
  init_adapter: null,
};

/** Single changes of a job that would make it fit, beginning with the mildest. */
function remedies(
  model: PlannedModel,
  settings: PlannedSettings,
  largest: number,
  available: number,
): string[] {
  const fits = (changed: Partial<PlannedSettings>, tokens = largest) =>
    runShapes(model, { ...settings, ...changed }, tokens)
      .some((shape) => planOf(model, { ...settings, ...changed }, shape, available).total_bytes <= available);
  const found: string[] = [];
  const { lora, quantization } = settings;
  const free = { activation_recomputation: "auto", micro_batch_tokens: null } as const;
  if (fits(free)) return ["activation_recomputation and micro_batch_tokens left out"];
  const smaller = lora && !quantization &&
    QUANTIZATIONS.find((name) => fits({ ...free, quantization: name }));
  if (smaller) found.push(`quantization ${smaller}`);
  const rank = lora && RANKS.find((r) => r < lora.r && fits({ ...free, lora: { ...lora, r } }));
  if (rank) found.push(`lora.r ${rank}`);
  let tokens = largest;
  while (tokens >= 16 && !fits(free, tokens)) tokens = Math.floor(tokens / 2);
  if (tokens < largest && tokens >= 16) {
    found.push(`rows of at most ${tokens} tokens by a smaller max_length, prompt and responses together`);
  }
  if (!lora && fits({ ...free, lora: PLAIN_LORA })) found.push("LoRA");
  return found;
}
