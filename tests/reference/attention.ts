import { at, type Numbers } from "./linear.ts";

/** Sizes and rules of grouped-query attention over a packed stream. */
export interface AttentionShape {
  readonly tokens: number;
  readonly heads: number;
  /** Query head h reads key/value head floor(h / (heads / kvHeads)). */
  readonly kvHeads: number;
  readonly headDim: number;
  /**
   * [tokens, 4]: (prefix_start, prefix_end, segment_start, queries_end). Token i attends to
   * [prefix_start, prefix_end) and [segment_start, i].
   */
  readonly spans: Numbers;
  /** Multiplies q · k; 1 / sqrt(headDim) unless given. */
  readonly scale?: number;
  /** Token i sees only tokens whose position is greater than its own minus this. Needs `positions`. */
  readonly window?: number;
  /** Scores s become softcap · tanh(s / softcap) before the softmax. */
  readonly softcap?: number;
  /** [tokens]; the window counts these, not places in the stream. */
  readonly positions?: Numbers;
}

/** Stream indices that a token attends to, in order. */
function attendedTo({ spans, window, positions }: AttentionShape, token: number): number[] {
  const [prefixStart, prefixEnd, segmentStart] = [0, 1, 2].map((c) => at(spans, token * 4 + c)) as [
    number,
    number,
    number,
  ];
  const seen: number[] = [];
  for (let j = prefixStart; j < prefixEnd; j++) seen.push(j);
  for (let j = segmentStart; j <= token; j++) seen.push(j);
  if (window === undefined) return seen;
  if (positions === undefined) throw new TypeError("a sliding window needs positions");
  return seen.filter((j) => at(positions, token) - at(positions, j) < window);
}

/** The softmax weights of one token and head, the cap's derivative at each score, and the scores' log-sum-exp. */
function weightsOf(
  q: Numbers,
  k: Numbers,
  shape: AttentionShape,
  token: number,
  head: number,
): { seen: number[]; weights: number[]; slopes: number[]; lse: number } {
  const { heads, kvHeads, headDim, softcap } = shape;
  const scale = shape.scale ?? 1 / Math.sqrt(headDim);
  const kvHead = Math.floor(head / (heads / kvHeads));
  const seen = attendedTo(shape, token);
  const scores = seen.map((j) => {
    let dot = 0;
    for (let c = 0; c < headDim; c++) {
      dot += at(q, (token * heads + head) * headDim + c) * at(k, (j * kvHeads + kvHead) * headDim + c);
    }
    const score = dot * scale;
    return softcap === undefined ? score : softcap * Math.tanh(score / softcap);
  });
  const slopes = scores.map((score) => softcap === undefined ? 1 : 1 - (score / softcap) ** 2);
  const largest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const lse = largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0));
  return { seen, weights: scores.map((score) => Math.exp(score - lse)), slopes, lse };
}

/**
 * Softmax attention, grouped queries, causal within each response and over its group's prompt.
 *
 * @param q [tokens, heads, headDim]
 * @param k [tokens, kvHeads, headDim]
 * @param v [tokens, kvHeads, headDim]
 * @returns out [tokens, heads, headDim] and lse [tokens, heads], the natural log-sum-exp of the scaled scores
 */
export function attention(
  q: Numbers,
  k: Numbers,
  v: Numbers,
  shape: AttentionShape,
): { out: Float64Array; lse: Float64Array } {
  const { tokens, heads, kvHeads, headDim } = shape;
  const out = new Float64Array(tokens * heads * headDim);
  const lse = new Float64Array(tokens * heads);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const result = weightsOf(q, k, shape, token, head);
      lse[token * heads + head] = result.lse;
      result.seen.forEach((j, n) => {
        for (let c = 0; c < headDim; c++) {
          out[(token * heads + head) * headDim + c]! += result.weights[n]! *
            at(v, (j * kvHeads + kvHead) * headDim + c);
        }
      });
    }
  }
  return { out, lse };
}

/**
 * Gradients of {@link attention}. With p the weights: dv_j = Σ p_ij · do_i, dp_ij = do_i · v_j,
 * ds_ij = p_ij · (dp_ij - Σ_j p_ij dp_ij), dq_i = scale · Σ ds_ij k_j, dk_j = scale · Σ ds_ij q_i.
 * With a soft cap, ds has the cap's derivative 1 - (s / softcap)² as a factor.
 *
 * @param dOut [tokens, heads, headDim]
 * @returns dq [tokens, heads, headDim], dk and dv [tokens, kvHeads, headDim]
 */
export function attentionGrad(
  q: Numbers,
  k: Numbers,
  v: Numbers,
  dOut: Numbers,
  shape: AttentionShape,
): { dq: Float64Array; dk: Float64Array; dv: Float64Array } {
  const { tokens, heads, kvHeads, headDim } = shape;
  const scale = shape.scale ?? 1 / Math.sqrt(headDim);
  const dq = new Float64Array(tokens * heads * headDim);
  const dk = new Float64Array(tokens * kvHeads * headDim);
  const dv = new Float64Array(tokens * kvHeads * headDim);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      const kvHead = Math.floor(head / (heads / kvHeads));
      const query = (token * heads + head) * headDim;
      const { seen, weights, slopes } = weightsOf(q, k, shape, token, head);
      const dWeights = seen.map((j) => {
        let dot = 0;
        for (let c = 0; c < headDim; c++) {
          dot += at(dOut, query + c) * at(v, (j * kvHeads + kvHead) * headDim + c);
        }
        return dot;
      });
      const mean = dWeights.reduce((sum, value, n) => sum + value * weights[n]!, 0);
      seen.forEach((j, n) => {
        const key = (j * kvHeads + kvHead) * headDim;
        const dScore = weights[n]! * (dWeights[n]! - mean) * slopes[n]!;
        for (let c = 0; c < headDim; c++) {
          dv[key + c]! += weights[n]! * at(dOut, query + c);
          dq[query + c]! += scale * dScore * at(k, key + c);
          dk[key + c]! += scale * dScore * at(q, query + c);
        }
      });
    }
  }
  return { dq, dk, dv };
}
