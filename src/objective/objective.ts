import type { z } from "zod";
import type { Live, Program, Tensor } from "../gpu/mod.ts";
import type { Constants } from "../gpu/wgsl.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import type { RowKind } from "../preference/rows.ts";

/** What a job takes over from an objective, or from one of its published recipes, where the request says nothing. */
export interface Recipe {
  /** For full fine-tuning. */
  readonly learning_rate: number;
  readonly max_length: number;
  readonly max_prompt_length: number;
}

/** Live numbers that an objective needs of its batch. */
export interface ObjectiveLive extends Live {
  /** Examples of this batch. */
  readonly examples: number;
  /** Examples of the whole optimiser step, over all its micro-batches. */
  readonly step_examples: number;
  /** Scored tokens of the first response of all the step's examples. */
  readonly step_chosen_tokens: number;
}

/** What a forward pass leaves for an objective. */
export interface PolicyTensors {
  /** [rows]: log-prob of every scored token. */
  readonly logprobs: Tensor;
  /** [rows]: log sum_v p_v^2 of what each row predicts; null unless {@link Objective.collisions}. */
  readonly collisions: Tensor | null;
  /** [sequences, 2]: mean log-prob and mean logit, in the order of the examples' responses. */
  readonly averages: Tensor;
  /** [sequences + 1] */
  readonly sequence_rows: Tensor;
}

/** Tensors that a loss reads and writes. */
export interface ObjectiveTensors extends PolicyTensors {
  /** [sequences, numbers]: what {@link Objective.prepare} has found; null without. */
  readonly numbers: Tensor | null;
  /** [size]: what {@link Objective.statistic} has gathered over the whole step; null without. */
  readonly statistic: Tensor | null;
  /** [sequences], or [rows] by {@link Objective.coefficients}; written: the loss's gradient with respect to each token's log-prob. */
  readonly coefficients: Tensor;
  /** [examples, columns], written */
  readonly metrics: Tensor;
}

/** Sums of an objective's columns over examples. */
export interface MetricSums {
  sum(column: string): number;
  /** Over the examples. */
  mean(column: string): number;
}

/**
 * What training minimises: all that is particular to one type of `method`.
 *
 * @typeParam Given the method as a request has it
 * @typeParam Method with its defaults filled in
 */
export interface Objective<
  Given extends { readonly type: string } = { readonly type: string },
  Method extends { readonly type: string } = { readonly type: string },
  OwnRecipe extends Recipe = Recipe,
> {
  readonly type: Method["type"];
  /** Its name in a sentence of Markdown. */
  readonly title: string;
  /** The method's fields in a request. */
  readonly schema: z.ZodType<Given>;
  /** What holds without a recipe. */
  readonly defaults: OwnRecipe;
  /** Published recipes by their names. */
  readonly recipes: Readonly<Record<string, OwnRecipe>>;
  /** What its rows are. */
  readonly rows: RowKind;
  /** Responses of an example. */
  readonly responses: number;
  /** What has a coefficient of its own: a response, as its tokens share one, unless given. */
  readonly coefficients?: "sequence" | "row";
  /** Whether the prompt's tokens are scored too: a sequence before those of an example's responses. Not with `prepare`. */
  readonly scoresPrompt?: boolean;
  /** Whether it asks for the {@link PolicyTensors.collisions}. */
  readonly collisions?: boolean;
  /** What {@link record} writes of an example; the last is `examples`, which is 1. */
  readonly columns: readonly string[];
  /**
   * What it needs of every response by the policy as it stands before the first step, such as a reference's log-prob: found
   * once, kept with the job, and handed to the loss with each batch.
   */
  readonly prepare?: {
    /** Numbers of a response. */
    readonly numbers: readonly string[];
    /** Records what writes them to `numbers` [sequences, numbers]. */
    record<L extends ObjectiveLive>(
      program: Program<L>,
      method: Method,
      tensors: PolicyTensors & { readonly numbers: Tensor },
    ): void;
  };
  /** What the loss needs of the whole step before its first gradient; nothing is differentiated through it. */
  readonly statistic?: {
    readonly size: number;
    /** The groups of a step that it is gathered over; those of the step itself unless given. */
    groups?(groups: readonly EncodedGroup[]): readonly EncodedGroup[];
    /** Records what adds a batch's part to `statistic` [size], which is zero before the first. */
    record<L extends ObjectiveLive>(
      program: Program<L>,
      method: Method,
      tensors: Omit<ObjectiveTensors, "coefficients" | "metrics">,
    ): void;
  };
  /** Refuses fields that do not go together. */
  check?(given: Given, context: z.core.$RefinementCtx): void;
  /** Fills in what a request leaves open. */
  resolve(given: Given, recipe: OwnRecipe): Method;
  /**
   * Records the loss: from average log-probs to per-token coefficients and a row of metrics an example. Weights are those
   * of the whole optimiser step, so that accumulated micro-batches add up to exactly one large batch.
   */
  record<L extends ObjectiveLive>(program: Program<L>, method: Method, tensors: ObjectiveTensors): void;
  /** Metrics by TRL's names. */
  summarize(method: Method, sums: MetricSums): Record<string, number>;
}

/** `$(LOGPS_CHOSEN)` in a shader for the column `logps/chosen`, and `$(COLUMNS)` for how many there are. */
export function columnConstants(columns: readonly string[]): Constants {
  const named = columns.map((name, i) => [name.toUpperCase().replaceAll(/\W/g, "_"), i]);
  return { ...Object.fromEntries(named), COLUMNS: columns.length };
}

/**
 * Metrics by TRL's names of the examples that were summed.
 *
 * @param sums one row of the objective's columns, or the sum of several
 */
export function summarize(
  objective: Objective,
  method: { readonly type: string },
  sums: ArrayLike<number>,
): Record<string, number> {
  const sum = (column: string) => sums[objective.columns.indexOf(column)]!;
  return objective.summarize(method, { sum, mean: (column) => sum(column) / sum("examples") });
}
