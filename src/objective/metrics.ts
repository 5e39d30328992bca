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
