import type { Tensor, TensorSource } from "../gpu/mod.ts";

/** Columns of one example's metrics, as simpo.wgsl and sft.wgsl write them. */
export const METRIC_COLUMNS = [
  "loss",
  "rewards/chosen",
  "rewards/rejected",
  "rewards/accuracies",
  "rewards/margins",
  "logps/chosen",
  "logps/rejected",
  "logits/chosen",
  "logits/rejected",
  "chosen_logprob_sum",
  "chosen_tokens",
  "examples",
] as const;

/** Where metrics are gathered; [rows, METRIC_COLUMNS] unless it says otherwise. */
export interface MetricBuffers {
  /** A row an example of the micro-batch. */
  readonly metrics: Tensor;
  /** The step or evaluation under way. */
  readonly step: Tensor;
  /** The finished steps since the last logged one. */
  readonly window: Tensor;
  /** The window that is being read, while the next one begins. */
  readonly logged: Tensor;
  /** [2]: the optimiser's clip of the window's last step. */
  readonly logged_clip: Tensor;
}

/** @param examples the most of a micro-batch */
export function metricBuffers(source: TensorSource, examples: number): MetricBuffers {
  const table = (name: string, rows: number) =>
    source.tensor(`objective.${name}`, [rows, METRIC_COLUMNS.length]);
  return {
    metrics: table("metrics", examples),
    step: table("step_sums", 1),
    window: table("window_sums", 1),
    logged: table("logged_sums", 1),
    logged_clip: source.tensor("objective.logged_clip", [2]),
  };
}
