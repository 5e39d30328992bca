import { embedding, embeddingGrad } from "./layers.ts";
import { at, matmul, type Numbers } from "./linear.ts";

/** Operands of the language-model head: only rows that predict a scored token go into it. */
export interface HeadOperands {
  /** Final hidden states after the last norm, [tokens, width]. */
  readonly hidden: Numbers;
  /** Output embedding, [vocabulary, width]. */
  readonly weight: Numbers;
  /** Stream index of the hidden state of each row, [rows]. */
  readonly headTokens: Numbers;
  /** Token id that each row predicts, [rows]. */
  readonly targets: Numbers;
  readonly width: number;
}

/** Per-row results of the head. */
export interface HeadResult {
  /** log p(target), [rows] */
  readonly logprobs: Float64Array;
  /** Log-sum-exp of the row's logits, [rows] */
  readonly lse: Float64Array;
  /** Sum of the row's logits over the vocabulary, [rows]; the metric logits/* is its mean. */
  readonly logitSums: Float64Array;
  /** [rows, vocabulary] */
  readonly logits: Float64Array;
}

/** Log-probability of each row's target: logits = hidden[headTokens] · Wᵀ, logprob = logits[target] - lse. */
export function head({ hidden, weight, headTokens, targets, width }: HeadOperands): HeadResult {
  const rows = headTokens.length;
  const vocabulary = weight.length / width;
  const gathered = embedding(hidden, headTokens, width);
  const logits = matmul("nt", gathered, weight, { m: rows, n: vocabulary, k: width });
  const lse = new Float64Array(rows);
  const logprobs = new Float64Array(rows);
  const logitSums = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    const own = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
    const largest = own.reduce((a, b) => Math.max(a, b), -Infinity);
    lse[row] = largest + Math.log(own.reduce((sum, logit) => sum + Math.exp(logit - largest), 0));
    logprobs[row] = at(own, at(targets, row)) - lse[row]!;
    logitSums[row] = own.reduce((sum, logit) => sum + logit, 0);
  }
  return { logprobs, lse, logitSums, logits };
}

/**
 * Gradients of {@link head} for a loss whose derivative by each row's log-probability is given:
 * dLogits[row] = coefficient · (onehot(target) - softmax(logits)).
 *
 * @param coefficients dLoss / dLogprob, [rows]
 * @returns dHidden [tokens, width] and dWeight [vocabulary, width]
 */
export function headGrad(
  operands: HeadOperands,
  coefficients: Numbers,
): { dHidden: Float64Array; dWeight: Float64Array } {
  const { hidden, weight, headTokens, targets, width } = operands;
  const rows = headTokens.length;
  const vocabulary = weight.length / width;
  const { logits, lse } = head(operands);
  const dLogits = logits.map((logit, i) => {
    const row = Math.floor(i / vocabulary);
    const target = i % vocabulary === at(targets, row) ? 1 : 0;
    return at(coefficients, row) * (target - Math.exp(logit - lse[row]!));
  });
  const gathered = embedding(hidden, headTokens, width);
  const dWeight = matmul("tn", dLogits, gathered, { m: vocabulary, n: width, k: rows });
  const dGathered = matmul("nn", dLogits, weight, { m: rows, n: width, k: vocabulary });
  const dHidden = embeddingGrad(dGathered, headTokens, hidden.length / width, width);
  return { dHidden, dWeight };
}

/**
 * Mean log-probability of each sequence's rows.
 *
 * @param logprobs [rows]
 * @param sequenceRows offsets into the rows, [sequences + 1]
 * @returns [sequences]
 */
export function averageLogprobs(logprobs: Numbers, sequenceRows: Numbers): Float64Array {
  return Float64Array.from({ length: sequenceRows.length - 1 }, (_, sequence) => {
    const [begin, end] = [at(sequenceRows, sequence), at(sequenceRows, sequence + 1)];
    let sum = 0;
    for (let row = begin; row < end; row++) sum += at(logprobs, row);
    return sum / (end - begin);
  });
}

/**
 * Spreads the gradient of each sequence's average over its rows: the coefficients of {@link headGrad}.
 *
 * @param dAverages [sequences]
 * @param sequenceRows offsets into the rows, [sequences + 1]
 * @returns [rows]
 */
export function averageLogprobsGrad(dAverages: Numbers, sequenceRows: Numbers): Float64Array {
  const out = new Float64Array(at(sequenceRows, sequenceRows.length - 1));
  for (let sequence = 0; sequence < dAverages.length; sequence++) {
    const [begin, end] = [at(sequenceRows, sequence), at(sequenceRows, sequence + 1)];
    out.fill(at(dAverages, sequence) / (end - begin), begin, end);
  }
  return out;
}
