import sftSource from "../../shaders/sft.wgsl" with { type: "text" };
import simpoSource from "../../shaders/simpo.wgsl" with { type: "text" };
import sumRowsSource from "../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel, type Live, type Program, type Tensor } from "../gpu/mod.ts";
import type { Method } from "../api/settings.ts";
import { METRIC_COLUMNS } from "./metrics.ts";

/** Live numbers that an objective needs of its batch. */
export interface ObjectiveLive extends Live {
  /** Pairs of this batch; for sft its sequences. */
  readonly examples: number;
  /** Pairs of the whole optimiser step, over all its micro-batches. */
  readonly step_examples: number;
  /** Scored tokens of the whole step's chosen responses (sft: of all responses). */
  readonly step_chosen_tokens: number;
}

/** Tensors of an objective. */
export interface ObjectiveTensors {
  /** [sequences, 2]: mean log-prob and mean logit, chosen before rejected. */
  readonly averages: Tensor;
  /** [sequences + 1] */
  readonly sequence_rows: Tensor;
  /** [sequences], written: the loss's gradient with respect to each token's log-prob. */
  readonly coefficients: Tensor;
  /** [sequences, METRIC_COLUMNS], scratch */
  readonly metrics: Tensor;
  /** [1, METRIC_COLUMNS], added to */
  readonly sums: Tensor;
}

/** Responses an example has: a pair, or one completion. */
export function responsesPerExample(method: Method): 1 | 2 {
  return method.type === "sft" ? 1 : 2;
}

/**
 * Records the loss: from average log-probs to per-token coefficients and sums of metrics. Weights are those of the whole
 * optimiser step, so that accumulated micro-batches add up to exactly one large batch.
 */
export function recordObjective<L extends ObjectiveLive>(
  program: Program<L>,
  method: Method,
  tensors: ObjectiveTensors,
): void {
  const { averages, sequence_rows, coefficients, metrics, sums } = tensors;
  const bindings = { averages, sequence_rows, coefficients, metrics };
  if (method.type === "sft") {
    program.dispatch(defineKernel({ name: "sft", source: sftSource }), bindings, (live) => ({
      params: { sequences: live.examples, token_weight: 1 / live.step_chosen_tokens },
      workgroups: [Math.ceil(live.examples / 8), 1, 1],
    }));
  } else {
    const { beta, gamma, label_smoothing, loss_type, sft_weight } = method;
    program.dispatch(defineKernel({ name: "simpo", source: simpoSource }), bindings, (live) => ({
      params: {
        pairs: live.examples,
        beta,
        gamma,
        label_smoothing,
        hinge: loss_type === "hinge" ? 1 : 0,
        pair_weight: 1 / live.step_examples,
        sft_scale: sft_weight / live.step_chosen_tokens,
      },
      workgroups: [Math.ceil(live.examples / 8), 1, 1],
    }));
  }
  recordMetricSums(program, { x: metrics, sums }, (live) => live.examples);
}

/** Adds the live leading rows of x [rows, METRIC_COLUMNS] to sums [1, METRIC_COLUMNS]. */
export function recordMetricSums<L extends Live>(
  program: Program<L>,
  tensors: { readonly x: Tensor; readonly sums: Tensor },
  rows: (live: L) => number,
): void {
  const columns = METRIC_COLUMNS.length;
  program.dispatch(defineKernel({ name: "sum_rows", source: sumRowsSource }), tensors, (live) => ({
    params: { rows: rows(live), columns },
    workgroups: [Math.ceil(columns / 64), 1, 1],
  }));
}

/**
 * Means over the examples that were summed, by TRL's names.
 *
 * @param sums one row of METRIC_COLUMNS, or the sum of several
 */
export function summarizeMetrics(method: Method, sums: ArrayLike<number>): Record<string, number> {
  const sum = (name: typeof METRIC_COLUMNS[number]) => sums[METRIC_COLUMNS.indexOf(name)]!;
  const mean = (name: typeof METRIC_COLUMNS[number]) => sum(name) / sum("examples");
  const crossEntropy = -sum("chosen_logprob_sum") / sum("chosen_tokens");
  if (method.type === "sft") {
    return {
      loss: crossEntropy,
      "logps/chosen": mean("logps/chosen"),
      "logits/chosen": mean("logits/chosen"),
    };
  }
  const named = METRIC_COLUMNS.slice(1, 9).map((name) => [name, mean(name)]);
  return {
    loss: mean("loss") + (method.sft_weight > 0 ? method.sft_weight * crossEntropy : 0),
    ...Object.fromEntries(named),
    sft_loss: crossEntropy,
  };
}
