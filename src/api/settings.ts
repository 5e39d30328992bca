/** What a training run depends on beside the model and the rows: fields of `POST /train`, presets and defaults. */
import { z } from "zod";
import { SAVE_DTYPES } from "../model/dtype.ts";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { refuseField, strictObject } from "../validation.ts";
import { isPattern, PATTERN } from "../model/module_pattern.ts";
import { type Method, MethodSchema, objectiveOf, RECIPES } from "../objective/mod.ts";
import type { Recipe } from "../objective/objective.ts";
import {
  ChatTemplateKwargsSchema,
  ChatTemplateSchema,
  promptBoundaryField,
  splitSpecialTokens,
  splitSpecialTokensField,
  truncationModeField,
} from "./fields.ts";
import { list, mapping, most, mostSteps, mostTokens, positive, text, wholeNumber } from "./limits.ts";

/** LoRA trains far fewer numbers and wants a higher rate than the recipes, which are for full fine-tuning. */
const loraRateFactor = 20;

const presetNames = Object.keys(RECIPES) as [string, ...string[]];

const moduleName = text(most.nameCharacters, 1);
/** Of an adapter; above any layer's size. */
const mostRank = 65_536;
const mostAlpha = 1_000_000;
/** Thousands of times what any recipe has. */
const mostRate = 100;
const mostEpochs = 100_000;
/** Smaller ones are 0 in the device's numbers, and a moment of 0 is divided by it. */
const leastEpsilon = 1e-30;

const share = () => z.number().min(0).max(1);

/** Numbers by regular expressions. */
const patterns = (numbers: z.ZodNumber) =>
  mapping(text(most.patternCharacters, 1).refine(isPattern, { error: PATTERN }), numbers, {
    max: most.keys,
    error: "an object from ends of module paths to numbers",
  });

const LoraSchema = strictObject({
  r: wholeNumber(1, mostRank).optional().describe("Rank; 16 where it is left out."),
  alpha: positive(mostAlpha).optional().describe(
    "The update is scaled by alpha / r. Twice r where it is left out.",
  ),
  dropout: z.number().min(0).lt(1).optional().describe("0 where it is left out."),
  target_modules: z.union([z.literal("all-linear"), list(moduleName, { min: 1, max: most.modules })], {
    error: '"all-linear" or a list of module names such as "q_proj"',
  }).optional().describe("Every linear layer where it is left out."),
  use_rslora: z.boolean().optional().describe(
    "rsLoRA: the update is scaled by alpha / sqrt(r). false where it is left out.",
  ),
  modules_to_save: list(moduleName, { max: most.modules }).optional().meta({
    description:
      "Modules trained in full beside the factors and saved with them, by the ends of their paths as in PEFT: " +
      'such as "embed_tokens", "lm_head", "norm". None where it is left out.',
    example: ["embed_tokens", "lm_head"],
  }),
  ensure_weight_tying: z.boolean().optional().describe(
    "Where the model ties its head to the embedding and modules_to_save names one of them: true trains them " +
      "as one, false (as in PEFT) only what is named, which unties them.",
  ),
  init_adapter: text(most.nameCharacters).nullable().optional().describe(
    "The PEFT adapter that training goes on from: a folder relative to the root, or a job's id. What is left out of " +
      "these settings is the adapter's; what is given must agree, but for dropout.",
  ),
  rank_pattern: patterns(wholeNumber(1, mostRank)).optional().meta({
    description:
      "Ranks of modules that have another than r, by the ends of their paths or regular expressions of them, as in " +
      "PEFT; the first that matches counts.",
    example: { "down_proj": 32, "layers\\.0\\..*": 4 },
  }),
  alpha_pattern: patterns(positive(mostAlpha)).optional().describe("The same of alpha."),
});

/** The fields of a request. */
export const settingsFields = {
  method: MethodSchema.optional().describe(
    "SimPO with the preset's or the authors' values where it is left out.",
  ),
  lora: LoraSchema.nullable().optional().describe(
    "null: full fine-tuning. Left out: rank 16, alpha 32, every linear layer.",
  ),
  quantization: z.enum(QUANTIZATIONS).nullable().default(null).describe(
    "int8: the base's linear layers are held in 8 bits, a scale for every 32 weights, which takes half the memory of " +
      "bf16; only with LoRA. null: as their file has them.",
  ),
  learning_rate: positive(mostRate).optional().meta({
    description: `The preset's rate or 1e-6; ${loraRateFactor} times that with LoRA.`,
    example: 2e-5,
  }),
  lr_scheduler_type: z.enum(["cosine", "linear", "constant", "constant_with_warmup"]).default("cosine"),
  warmup_ratio: share().default(0.1),
  num_train_epochs: positive(mostEpochs).optional().describe("1 where it is left out. Not with max_steps."),
  max_steps: wholeNumber(1, mostSteps).nullable().optional().describe(
    "Optimiser steps. Not with num_train_epochs.",
  ),
  batch_size: wholeNumber(1, 1_000_000).default(128).describe(
    "Rows an optimiser step, reached by accumulation.",
  ),
  micro_batch_tokens: wholeNumber(1, mostTokens).optional().describe(
    "Tokens of one packed micro-batch. Where it is left out: 2048, or twice max_length where that is more, halved " +
      "until it fits the device's memory; never less than the largest row.",
  ),
  weight_decay: z.number().min(0).max(1000).default(0),
  adam_beta1: z.number().min(0).lt(1).default(0.9),
  adam_beta2: z.number().min(0).lt(1).default(0.999),
  adam_epsilon: z.number().min(leastEpsilon).max(1).default(1e-8),
  max_grad_norm: z.number().min(0).max(1e9).default(1).describe("0: gradients are never scaled down."),
  max_length: wholeNumber(2, mostTokens).optional().describe(
    "Tokens of a prompt with one response; the preset's, or 512.",
  ),
  max_prompt_length: wholeNumber(1, mostTokens).optional().describe(
    "Tokens a prompt is cut to where it does not fit; the preset's or 128, and always less than max_length.",
  ),
  truncation_mode: truncationModeField.default("keep_end"),
  prompt_boundary: promptBoundaryField.default("trl").describe(
    "trl: the assistant header belongs to the prompt. simpo: the authors' tokens. The header is scored, " +
      "an empty system turn comes first where the template knows such turns, and EOS comes last whatever stands before it.",
  ),
  chat_template: ChatTemplateSchema.nullable().optional(),
  save_dtype: z.enum(SAVE_DTYPES).nullable().optional().meta({
    description:
      "Type of whole weights in the result: those of full fine-tuning, and of an adapter merged into its base " +
      "(format=merged), rounded to the nearest, ties to even. Weights that f16 cannot hold (over 65504) are refused. An " +
      "adapter's own files and checkpoints are f32 always. Left out or null: as the base model's files have each weight.",
    example: "bf16",
  }),
  max_left_out: share().default(0.1).describe(
    "Share of a data set's rows that may be left out because they cannot be used; above it the job fails. One row may be, " +
      "be it of a few; 0: none.",
  ),
  eval_fraction: z.number().min(0).max(0.5).default(0).describe(
    "Share of the rows that are held out for evaluation, chosen by the seed; rows with the same prompt stay together. " +
      "Not with eval_dataset.",
  ),
  chat_template_kwargs: ChatTemplateKwargsSchema.nullable().optional(),
  split_special_tokens: splitSpecialTokensField.optional().describe(`${splitSpecialTokens} Left out: null.`),
  seed: wholeNumber(0, 2 ** 32 - 1).default(42),
  save_steps: wholeNumber(0, mostSteps).default(50).describe(
    "Steps between checkpoints; 0: only at the end.",
  ),
  keep_checkpoints: wholeNumber(1, 10_000).default(2).describe(
    "How many of the newest checkpoints stay. With one, a checkpoint that is damaged has none before it to go on from.",
  ),
  eval_steps: wholeNumber(0, mostSteps).default(0).describe("Steps between evaluations; 0: only at the end."),
  logging_steps: wholeNumber(1, mostSteps).default(1),
  activation_recomputation: z.union([z.boolean(), z.literal("auto")], { error: 'true, false or "auto"' })
    .default("auto").describe(
      "Recompute each block's activations in the backward pass instead of storing them; " +
        "auto: where they do not fit the device's memory.",
    ),
};

/** A recipe's name. */
export const presetField = z.enum(presetNames).optional().describe(
  "A published recipe: sets learning_rate, beta, gamma_beta_ratio, max_length and max_prompt_length " +
    `where the request leaves them out. Its rates are for full fine-tuning; with LoRA they are taken ${loraRateFactor} times.`,
);

/** The settings' part of a request, as its sender wrote it. */
export type SettingsRequest = z.infer<z.ZodObject<typeof settingsFields>> & {
  preset?: z.infer<typeof presetField>;
};

/** Refuses fields that do not go together. */
export function checkSettings(spec: SettingsRequest, context: z.core.$RefinementCtx): void {
  const objective = objectiveOf(spec.method);
  if (spec.method) objective.check?.(spec.method, context);
  if (spec.lora === null && spec.quantization !== null) {
    refuseField(
      context,
      ["quantization"],
      `quantization ${spec.quantization} is for a frozen base, but with lora null all weights are trained.`,
      "null, or a job with LoRA",
    );
  }
  if (spec.preset !== undefined && RECIPES[spec.preset] !== objective.type) {
    refuseField(
      context,
      ["preset"],
      `preset ${spec.preset} is a recipe for method ${RECIPES[spec.preset]}, not for ${objective.type}.`,
      [`no preset with method ${objective.type}`, ...Object.keys(objective.recipes)].join(" | "),
    );
  }
  if (spec.max_steps != null && spec.num_train_epochs !== undefined) {
    refuseField(
      context,
      ["max_steps"],
      `Both max_steps ${spec.max_steps} and num_train_epochs ${spec.num_train_epochs} are given: give one of them.`,
      "one of max_steps and num_train_epochs",
    );
  }
  const maxLength = spec.max_length ?? recipeOf(spec).max_length;
  if (spec.max_prompt_length !== undefined && spec.max_prompt_length >= maxLength) {
    refuseField(
      context,
      ["max_prompt_length"],
      `max_prompt_length must leave room for a response: less than max_length ${maxLength}, not ${spec.max_prompt_length}.`,
      `a whole number less than ${maxLength}`,
    );
  }
}

/** Keys in the schema's order, so that the same settings are always the same JSON: a job file's id is a hash of it. */
const { chat_template_kwargs: _, split_special_tokens: __, ...everyJobs } = settingsFields;
const inOrder = Object.fromEntries(Object.keys(everyJobs).map((name) => [name, undefined]));

/** Fills in what a request leaves to its preset and to other fields. */
export function resolveSettings(
  { preset, chat_template_kwargs, split_special_tokens, ...given }: SettingsRequest,
) {
  const objective = objectiveOf(given.method);
  const recipe = recipeOf({ preset, method: given.method });
  const lora = given.lora === null ? null : resolveLora(given.lora);
  const max_length = given.max_length ?? recipe.max_length;
  return {
    ...inOrder,
    ...given,
    method: objective.resolve(given.method ?? MethodSchema.parse({ type: objective.type }), recipe) as Method,
    lora,
    learning_rate: given.learning_rate ??
      (lora === null ? recipe.learning_rate : loraRate(recipe.learning_rate)),
    num_train_epochs: given.num_train_epochs ?? 1,
    max_steps: given.max_steps ?? null,
    micro_batch_tokens: given.micro_batch_tokens ?? null,
    max_length,
    max_prompt_length: given.max_prompt_length ?? Math.min(recipe.max_prompt_length, max_length - 1),
    chat_template: given.chat_template ?? null,
    save_dtype: given.save_dtype ?? null,
    // only where they are given: jobs without keep the JSON, and so the id, that they had before these settings
    ...chat_template_kwargs && { chat_template_kwargs },
    ...split_special_tokens != null && { split_special_tokens },
  };
}

/** Plain data that nobody writes to. */
type Frozen<T> = unknown extends T ? T : { readonly [K in keyof T]: Frozen<T[K]> };

/** Everything a training run depends on, beside the model and the rows; every default is filled in. */
export type TrainingSettings = Frozen<ReturnType<typeof resolveSettings>>;

/** LoRA as PEFT has it: W x + scale B A dropout(x); scale is alpha / r, or alpha / sqrt(r) with rsLoRA. */
export type LoraSettings = Frozen<ReturnType<typeof resolveLora>>;

/** The preset's values, else the objective's own. */
function recipeOf({ preset, method }: Pick<SettingsRequest, "preset" | "method">): Recipe {
  const { recipes, defaults } = objectiveOf(method);
  return preset === undefined ? defaults : recipes[preset] ?? defaults;
}

/** Rounded, so that 1e-6 gives 2e-5 as it is written. */
function loraRate(rate: number): number {
  return Number((rate * loraRateFactor).toPrecision(12));
}

function resolveLora(lora: z.infer<typeof LoraSchema> | undefined) {
  const r = lora?.r ?? 16;
  return {
    r,
    alpha: lora?.alpha ?? 2 * r,
    dropout: lora?.dropout ?? 0,
    target_modules: lora?.target_modules ?? "all-linear",
    use_rslora: lora?.use_rslora ?? false,
    ...lora?.rank_pattern && { rank_pattern: lora.rank_pattern },
    ...lora?.alpha_pattern && { alpha_pattern: lora.alpha_pattern },
    modules_to_save: lora?.modules_to_save ?? [],
    ensure_weight_tying: lora?.ensure_weight_tying ?? false,
    init_adapter: lora?.init_adapter ?? null,
  };
}
