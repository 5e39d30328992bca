/** SimPO: -logsigmoid(beta (s_chosen - s_rejected) - gamma), arXiv 2405.14734. */
import { z } from "zod";
import simpoSource from "../../shaders/simpo.wgsl" with { type: "text" };
import { DEFAULT_MAX_PROMPT_LENGTH } from "../api/fields.ts";
import { mostBeta, positive } from "../api/limits.ts";
import { defineKernel } from "../gpu/kernel.ts";
import { refuseField, strictObject } from "../validation.ts";
import { columnConstants, type Objective, type Recipe } from "./objective.ts";

interface SimpoRecipe extends Recipe {
  readonly beta: number;
  readonly gamma_beta_ratio: number;
}

const schema = strictObject({
  type: z.literal("simpo"),
  beta: positive(mostBeta).optional().meta({
    description: "Scale of the implicit reward; the preset's, or 2.0.",
    example: 2,
  }),
  gamma: z.number().min(0).max(mostBeta).optional().meta({
    description: "Target reward margin, absolute. Not with gamma_beta_ratio.",
  }),
  gamma_beta_ratio: z.number().min(0).max(mostBeta).optional().meta({
    description: "Target reward margin over beta; the preset's, or 0.25. Not with gamma.",
  }),
  loss_type: z.enum(["sigmoid", "hinge"]).default("sigmoid"),
  label_smoothing: z.number().min(0).max(0.5).default(0).meta({
    description: "Probability that a pair's labels are swapped; the hinge loss ignores it.",
  }),
  sft_weight: z.number().min(0).max(mostBeta).default(0).meta({
    description: "Weight of the chosen responses' token-mean cross-entropy, added to the loss.",
  }),
});

type SimpoRequest = z.infer<typeof schema>;

/** SimPO's settings, defaults filled in. */
export interface SimpoMethod extends Readonly<Omit<SimpoRequest, "beta" | "gamma" | "gamma_beta_ratio">> {
  readonly beta: number;
  /** Target reward margin, absolute. */
  readonly gamma: number;
}

const REWARDS = [
  "rewards/chosen",
  "rewards/rejected",
  "rewards/accuracies",
  "rewards/margins",
  "logps/chosen",
  "logps/rejected",
  "logits/chosen",
  "logits/rejected",
] as const;

const columns = ["loss", ...REWARDS, "chosen_logprob_sum", "chosen_tokens", "examples"] as const;

export const simpo = {
  type: "simpo",
  title: "[SimPO](https://arxiv.org/abs/2405.14734)",
  schema,
  // the authors' trainer's defaults (scripts/simpo_config.py)
  defaults: recipe(1e-6, 2.0, 0.25, 512, DEFAULT_MAX_PROMPT_LENGTH),
  // of the SimPO authors (princeton-nlp/SimPO, training_configs/ and README)
  recipes: {
    "mistral-base": recipe(3e-7, 2.0, 0.8, 1024, 512),
    "mistral-instruct": recipe(5e-7, 2.5, 0.1, 2048, 1800),
    "llama3-base": recipe(6e-7, 2.0, 0.5, 2048, 1800),
    "llama3-instruct": recipe(1e-6, 2.5, 0.55, 2048, 1800),
    "llama3-instruct-v0.2": recipe(1e-6, 10, 0.3, 2048, 1800),
    "gemma2-it": recipe(8e-7, 10, 0.5, 2048, 1800),
  },
  rows: "preference",
  responses: 2,
  columns,

  check({ gamma, gamma_beta_ratio }, context) {
    if (gamma === undefined || gamma_beta_ratio === undefined) return;
    refuseField(
      context,
      ["method", "gamma_beta_ratio"],
      `method has both gamma ${gamma} and gamma_beta_ratio ${gamma_beta_ratio}: give one of them.`,
      "one of gamma (absolute) and gamma_beta_ratio (over beta)",
    );
  },

  resolve({ gamma, gamma_beta_ratio, ...given }, recipe) {
    const { type, beta = recipe.beta, loss_type, label_smoothing, sft_weight } = given;
    const ratio = gamma_beta_ratio ?? recipe.gamma_beta_ratio;
    return { type, beta, gamma: gamma ?? ratio * beta, loss_type, label_smoothing, sft_weight };
  },

  record(
    program,
    { beta, gamma, label_smoothing, loss_type, sft_weight },
    { averages, sequence_rows, coefficients, metrics },
  ) {
    const kernel = defineKernel({ name: "simpo", source: simpoSource, constants: columnConstants(columns) });
    const bindings = { averages, sequence_rows, coefficients, metrics };
    program.dispatch(kernel, bindings, (live) => ({
      params: {
        pairs: live.examples,
        beta,
        gamma,
        label_smoothing,
        hinge: loss_type === "hinge" ? 1 : 0,
        pair_weight: 1 / live.step_examples,
        sft_scale: sft_weight / live.step_chosen_tokens,
      },
      invocations: live.examples,
    }));
  },

  summarize({ sft_weight }, { sum, mean }) {
    const crossEntropy = -sum("chosen_logprob_sum") / sum("chosen_tokens");
    return {
      loss: mean("loss") + (sft_weight > 0 ? sft_weight * crossEntropy : 0),
      ...Object.fromEntries(REWARDS.map((name) => [name, mean(name)])),
      sft_loss: crossEntropy,
    };
  },
} satisfies Objective<SimpoRequest, SimpoMethod, SimpoRecipe>;

function recipe(
  learning_rate: number,
  beta: number,
  gamma_beta_ratio: number,
  max_length: number,
  max_prompt_length: number,
): SimpoRecipe {
  return { learning_rate, beta, gamma_beta_ratio, max_length, max_prompt_length };
}
