/** What a training job may ask for: the schema of `POST /train` and of a job file, with its defaults and presets. */
import { z } from "@hono/zod-openapi";
import { within } from "../errors.ts";
import { QUANTIZATIONS } from "../model/quantization.ts";
import type { Method } from "../objective/method.ts";
import { ChatTemplateSchema } from "../preference/chat_template_schema.ts";
import { parseRow, type RowKind } from "../preference/rows.ts";
import type { TrainingSettings } from "../training/settings.ts";
import { parseWith, strictObject } from "../validation.ts";

/** Published recipes of the SimPO authors (princeton-nlp/SimPO, `training_configs/` and README). */
export const presets = {
  "mistral-base": preset(3e-7, 2.0, 0.8, 1024, 512),
  "mistral-instruct": preset(5e-7, 2.5, 0.1, 2048, 1800),
  "llama3-base": preset(6e-7, 2.0, 0.5, 2048, 1800),
  "llama3-instruct": preset(1e-6, 2.5, 0.55, 2048, 1800),
  "llama3-instruct-v0.2": preset(1e-6, 10, 0.3, 2048, 1800),
  "gemma2-it": preset(8e-7, 10, 0.5, 2048, 1800),
} as const;

/** What holds without a preset: the authors' trainer's defaults (`scripts/simpo_config.py`). */
const noPreset = preset(1e-6, 2.0, 0.25, 512, 128);

/** LoRA trains far fewer numbers and wants a higher rate than the recipes, which are for full fine-tuning. */
const loraRateFactor = 20;

function preset(
  learning_rate: number,
  beta: number,
  gamma_beta_ratio: number,
  max_length: number,
  max_prompt_length: number,
) {
  return { learning_rate, beta, gamma_beta_ratio, max_length, max_prompt_length } as const;
}

const presetNames = Object.keys(presets) as [keyof typeof presets, ...(keyof typeof presets)[]];

const wholeNumber = (min: number) => z.number().int().min(min);
const positive = () => z.number().positive();
const share = () => z.number().min(0).max(1);

const datasetError =
  "an object with one of path (a JSONL or Parquet file, or a folder of them) and rows (a list of rows)";

const DatasetSchema = z.union([
  strictObject({
    path: z.string().meta({
      description: "JSONL or Parquet file, or a folder laid out as the hub's data sets are " +
        "(data/train-00000-of-00002.parquet, train.jsonl), named relative to the root; or hf://datasets/org/name.",
      example: "data/train.jsonl",
    }),
    split: z.string().min(1).optional().meta({
      description: "Which of a folder's splits; train where nothing is said.",
      example: "train",
    }),
  }),
  strictObject({
    rows: z.array(z.unknown().openapi({ type: "object" })).min(1).meta({
      description:
        "The rows themselves: {prompt, chosen, rejected} as strings or message lists, {chosen, rejected} " +
        "as whole conversations, or OpenAI's preference rows; for method sft {prompt, completion}, {messages} or {text}.",
    }),
  }),
], { error: datasetError });

const SimpoMethodSchema = strictObject({
  type: z.literal("simpo"),
  beta: positive().optional().meta({
    description: "Scale of the implicit reward; the preset's, or 2.0.",
    example: 2,
  }),
  gamma: z.number().min(0).optional().meta({
    description: "Target reward margin, absolute. Not with gamma_beta_ratio.",
  }),
  gamma_beta_ratio: z.number().min(0).optional().meta({
    description: "Target reward margin over beta; the preset's, or 0.25. Not with gamma.",
  }),
  loss_type: z.enum(["sigmoid", "hinge"]).default("sigmoid"),
  label_smoothing: z.number().min(0).max(0.5).default(0).meta({
    description: "Probability that a pair's labels are swapped; the hinge loss ignores it.",
  }),
  sft_weight: z.number().min(0).default(0).meta({
    description: "Weight of the chosen responses' token-mean cross-entropy, added to the loss.",
  }),
});

const SftMethodSchema = strictObject({
  type: z.literal("sft").meta({ description: "Plain likelihood training on one completion a row." }),
});

const LoraSchema = strictObject({
  r: wholeNumber(1).optional().meta({ description: "Rank; 16 where it is left out." }),
  alpha: positive().optional().meta({
    description: "The update is scaled by alpha / r. Twice r where it is left out.",
  }),
  use_rslora: z.boolean().optional().meta({
    description: "rsLoRA: the update is scaled by alpha / sqrt(r). false where it is left out.",
  }),
  dropout: z.number().min(0).lt(1).optional().meta({ description: "0 where it is left out." }),
  target_modules: z.union([z.literal("all-linear"), z.array(z.string().min(1)).min(1)], {
    error: '"all-linear" or a list of module names such as "q_proj"',
  }).optional().meta({ description: "Every linear layer where it is left out." }),
  modules_to_save: z.array(z.string().min(1)).optional().meta({
    description:
      "Modules trained in full beside the factors and saved with them, by the ends of their paths as in PEFT: " +
      'such as "embed_tokens", "lm_head", "norm". None where it is left out.',
    example: ["embed_tokens", "lm_head"],
  }),
  ensure_weight_tying: z.boolean().optional().meta({
    description:
      "Where the model ties its head to the embedding and modules_to_save names one of them: true trains them " +
      "as one, false (as in PEFT) only what is named, which unties them.",
  }),
  init_adapter: z.string().nullable().optional().meta({
    description:
      "The PEFT adapter that training goes on from: a folder relative to the root, or a job's id. What is left out of " +
      "these settings is the adapter's; what is given must agree, but for dropout.",
  }),
});

/** The body of `POST /train`, and a job file's content. */
export const JobSpecSchema = strictObject({
  model: z.string().meta({
    description:
      "Folder of the base model, relative to the root; or hf://org/name, with @revision where it is not main.",
    example: "models/llama",
  }),
  dataset: DatasetSchema,
  eval_dataset: DatasetSchema.nullable().optional(),
  method: z.discriminatedUnion("type", [SimpoMethodSchema, SftMethodSchema]).optional().meta({
    description: "SimPO with the preset's or the authors' values where it is left out.",
  }),
  preset: z.enum(presetNames).optional().meta({
    description:
      "A published recipe: sets learning_rate, beta, gamma_beta_ratio, max_length and max_prompt_length " +
      `where the request leaves them out. Its rates are for full fine-tuning; with LoRA they are taken ${loraRateFactor} times.`,
  }),
  lora: LoraSchema.nullable().optional().meta({
    description: "null: full fine-tuning. Left out: rank 16, alpha 32, every linear layer.",
  }),
  quantization: z.enum(QUANTIZATIONS).nullable().default(null).meta({
    description:
      "int8: the base's linear layers are held in 8 bits, a scale for every 32 weights, which takes half the memory of " +
      "bf16; only with LoRA. null: as their file has them.",
  }),
  learning_rate: positive().optional().meta({
    description: `The preset's rate or 1e-6; ${loraRateFactor} times that with LoRA.`,
    example: 2e-5,
  }),
  lr_scheduler_type: z.enum(["cosine", "linear", "constant", "constant_with_warmup"]).default("cosine"),
  warmup_ratio: share().default(0.1),
  num_train_epochs: positive().optional().meta({
    description: "1 where it is left out. Not with max_steps.",
  }),
  max_steps: wholeNumber(1).nullable().optional().meta({
    description: "Optimiser steps. Not with num_train_epochs.",
  }),
  batch_size: wholeNumber(1).default(128).meta({
    description: "Rows an optimiser step, reached by accumulation.",
  }),
  micro_batch_tokens: wholeNumber(1).optional().meta({
    description:
      "Tokens of one packed micro-batch. Where it is left out: 2048, or twice max_length where that is more, halved " +
      "until it fits the device's memory; never less than the largest row.",
  }),
  weight_decay: z.number().min(0).default(0),
  adam_beta1: z.number().min(0).lt(1).default(0.9),
  adam_beta2: z.number().min(0).lt(1).default(0.999),
  adam_epsilon: positive().default(1e-8),
  max_grad_norm: z.number().min(0).default(1).meta({ description: "0: gradients are never scaled down." }),
  max_length: wholeNumber(2).optional().meta({
    description: "Tokens of a prompt with one response; the preset's, or 512.",
  }),
  max_prompt_length: wholeNumber(1).optional().meta({
    description:
      "Tokens a prompt is cut to where it does not fit; the preset's or 128, and always less than max_length.",
  }),
  truncation_mode: z.enum(["keep_end", "keep_start"]).default("keep_end"),
  prompt_boundary: z.enum(["trl", "simpo"]).default("trl").meta({
    description:
      "trl: the assistant header belongs to the prompt. simpo: the authors' tokens. The header is scored, " +
      "an empty system turn comes first where the template knows such turns, and EOS comes last whatever stands before it.",
  }),
  chat_template: ChatTemplateSchema.nullable().optional(),
  seed: wholeNumber(0).max(2 ** 32 - 1).default(42),
  save_steps: wholeNumber(0).default(50).meta({
    description: "Steps between checkpoints; 0: only at the end.",
  }),
  eval_steps: wholeNumber(0).default(0).meta({
    description: "Steps between evaluations; 0: only at the end.",
  }),
  logging_steps: wholeNumber(1).default(1),
  activation_recomputation: z.union([z.boolean(), z.literal("auto")], { error: 'true, false or "auto"' })
    .default("auto").meta({
      description: "Recompute each block's activations in the backward pass instead of storing them; " +
        "auto: where they do not fit the device's memory.",
    }),
}).superRefine((spec, context) => {
  const refuse = (path: string[], message: string, accepted: string) =>
    context.addIssue({ code: "custom", path, message, params: { accepted } });
  const method = spec.method;
  if (method?.type === "simpo" && method.gamma !== undefined && method.gamma_beta_ratio !== undefined) {
    refuse(
      ["method", "gamma_beta_ratio"],
      `method has both gamma ${method.gamma} and gamma_beta_ratio ${method.gamma_beta_ratio}: give one of them.`,
      "one of gamma (absolute) and gamma_beta_ratio (over beta)",
    );
  }
  if (spec.lora === null && spec.quantization !== null) {
    refuse(
      ["quantization"],
      `quantization ${spec.quantization} is for a frozen base, but with lora null all weights are trained.`,
      "null, or a job with LoRA",
    );
  }
  if (method?.type === "sft" && spec.preset !== undefined) {
    refuse(
      ["preset"],
      `preset ${spec.preset} is a recipe for method simpo, not for sft.`,
      "no preset with method sft",
    );
  }
  if (spec.max_steps != null && spec.num_train_epochs !== undefined) {
    refuse(
      ["max_steps"],
      `Both max_steps ${spec.max_steps} and num_train_epochs ${spec.num_train_epochs} are given: give one of them.`,
      "one of max_steps and num_train_epochs",
    );
  }
  const lengths = recipe(spec.preset);
  const maxLength = spec.max_length ?? lengths.max_length;
  if (spec.max_prompt_length !== undefined && spec.max_prompt_length >= maxLength) {
    refuse(
      ["max_prompt_length"],
      `max_prompt_length must leave room for a response: less than max_length ${maxLength}, not ${spec.max_prompt_length}.`,
      `a whole number less than ${maxLength}`,
    );
  }
});

/** A request as its sender wrote it. */
export type JobRequest = z.infer<typeof JobSpecSchema>;

/** Rows by a name under the root or of the hub, or the rows themselves. */
export type DatasetSpec = JobRequest["dataset"];

/** A job with nothing left open. */
export interface JobSpec {
  /** Name relative to the root, or of the hub. */
  readonly model: string;
  readonly dataset: DatasetSpec;
  readonly eval_dataset: DatasetSpec | null;
  readonly preset: string | null;
  readonly settings: TrainingSettings;
}

/**
 * Types a job and fills in its defaults.
 *
 * @throws InputError naming the field, its value and what would be accepted
 *
 * @example A minimal job
 * ```ts
 * import { parseJobSpec } from "./spec.ts";
 * const { settings } = parseJobSpec({ model: "m", dataset: { path: "pairs.jsonl" } });
 * console.assert(settings.learning_rate === 2e-5 && settings.lora?.r === 16);
 * ```
 */
export function parseJobSpec(value: unknown): JobSpec {
  return resolveJobSpec(parseWith(JobSpecSchema, value));
}

/**
 * Fills in what a request leaves to the preset and to other fields, and looks at the rows that came with it.
 *
 * @throws InputError naming the first row that is none of the method's shapes
 */
export function resolveJobSpec(request: JobRequest): JobSpec {
  const kind = request.method?.type === "sft" ? "sft" : "preference";
  checkRows(request.dataset, kind, "dataset");
  if (request.eval_dataset != null) checkRows(request.eval_dataset, kind, "eval_dataset");
  const recipeOfRequest = recipe(request.preset);
  const max_length = request.max_length ?? recipeOfRequest.max_length;
  const lora = request.lora === null ? null : resolveLora(request.lora);
  return {
    model: request.model,
    dataset: request.dataset,
    eval_dataset: request.eval_dataset ?? null,
    preset: request.preset ?? null,
    settings: {
      method: resolveMethod(request),
      lora,
      quantization: request.quantization,
      learning_rate: request.learning_rate ??
        (lora === null ? recipeOfRequest.learning_rate : loraRate(recipeOfRequest.learning_rate)),
      lr_scheduler_type: request.lr_scheduler_type,
      warmup_ratio: request.warmup_ratio,
      num_train_epochs: request.num_train_epochs ?? 1,
      max_steps: request.max_steps ?? null,
      batch_size: request.batch_size,
      micro_batch_tokens: request.micro_batch_tokens ?? null,
      weight_decay: request.weight_decay,
      adam_beta1: request.adam_beta1,
      adam_beta2: request.adam_beta2,
      adam_epsilon: request.adam_epsilon,
      max_grad_norm: request.max_grad_norm,
      max_length,
      max_prompt_length: request.max_prompt_length ??
        Math.min(recipeOfRequest.max_prompt_length, max_length - 1),
      truncation_mode: request.truncation_mode,
      prompt_boundary: request.prompt_boundary,
      chat_template: request.chat_template ?? null,
      seed: request.seed,
      save_steps: request.save_steps,
      eval_steps: request.eval_steps,
      logging_steps: request.logging_steps,
      activation_recomputation: request.activation_recomputation,
    },
  };
}

function checkRows(dataset: DatasetSpec, kind: RowKind, field: string): void {
  if (!("rows" in dataset)) return;
  for (const [index, row] of dataset.rows.entries()) {
    within([field, "rows", index], () => parseRow(row, index + 1, kind));
  }
}

function recipe(name: keyof typeof presets | undefined) {
  return name === undefined ? noPreset : presets[name];
}

/** Rounded, so that 1e-6 gives 2e-5 as it is written. */
function loraRate(rate: number): number {
  return Number((rate * loraRateFactor).toPrecision(12));
}

function resolveLora(lora: JobRequest["lora"]): NonNullable<TrainingSettings["lora"]> {
  const r = lora?.r ?? 16;
  return {
    r,
    alpha: lora?.alpha ?? 2 * r,
    dropout: lora?.dropout ?? 0,
    target_modules: lora?.target_modules ?? "all-linear",
    use_rslora: lora?.use_rslora ?? false,
    modules_to_save: lora?.modules_to_save ?? [],
    ensure_weight_tying: lora?.ensure_weight_tying ?? false,
    init_adapter: lora?.init_adapter ?? null,
  };
}

function resolveMethod({ method, preset }: JobRequest): Method {
  if (method?.type === "sft") return { type: "sft" };
  const { beta: presetBeta, gamma_beta_ratio } = recipe(preset);
  const { beta = presetBeta, gamma, loss_type, label_smoothing, sft_weight } = method ??
    SimpoMethodSchema.parse({ type: "simpo" });
  return {
    type: "simpo",
    beta,
    gamma: gamma ?? (method?.gamma_beta_ratio ?? gamma_beta_ratio) * beta,
    loss_type,
    label_smoothing,
    sft_weight,
  };
}
