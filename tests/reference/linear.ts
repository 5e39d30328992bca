/** A flat row-major array of numbers; its shape is given apart. */
export type Numbers = ArrayLike<number>;

/** How a matrix product's operands lie in memory; the result is always [m, n]. */
export type MatmulLayout = "nn" | "nt" | "tn";

/** Sizes of a matrix product: the result is [m, n], the sum runs over k. */
export interface MatmulShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

/** Reads one element, failing loudly where a shape and its data disagree. */
export function at(values: Numbers, index: number): number {
  const value = values[index];
  if (value === undefined) throw new RangeError(`index ${index} is outside an array of ${values.length}`);
  return value;
}

/**
 * Matrix product.
 *
 * - `nn`: a [m, k], b [k, n]
 * - `nt`: a [m, k], b [n, k] (a linear layer's forward: x · Wᵀ)
 * - `tn`: a [k, m], b [k, n] (a weight gradient: dYᵀ · X)
 *
 * @returns [m, n]
 */
export function matmul(layout: MatmulLayout, a: Numbers, b: Numbers, { m, n, k }: MatmulShape): Float64Array {
  if (a.length !== m * k || b.length !== k * n) {
    throw new RangeError(`matmul ${layout}: ${a.length} and ${b.length} values for m ${m}, n ${n}, k ${k}`);
  }
  const [aRow, aStep] = layout === "tn" ? [1, m] : [k, 1];
  const [bColumn, bStep] = layout === "nt" ? [k, 1] : [1, n];
  const out = new Float64Array(m * n);
  for (let row = 0; row < m; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += a[row * aRow + i * aStep]! * b[column * bColumn + i * bStep]!;
      out[row * n + column] = sum;
    }
  }
  return out;
}

/** Element-wise sum of two arrays of one length. */
export function add(a: Numbers, b: Numbers): Float64Array {
  if (a.length !== b.length) throw new RangeError(`add: ${a.length} and ${b.length} values`);
  return Float64Array.from({ length: a.length }, (_, i) => at(a, i) + at(b, i));
}

/** Sizes of a linear layer with a low-rank adapter. */
export interface LoraShape {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly rank: number;
}

/** Operands of a linear layer with a low-rank adapter. */
export interface LoraOperands {
  /** [rows, inputs] */
  readonly x: Numbers;
  /** Frozen weight, [outputs, inputs]. */
  readonly weight: Numbers;
  /** [rank, inputs] */
  readonly a: Numbers;
  /** [outputs, rank] */
  readonly b: Numbers;
  /** alpha / r */
  readonly scale: number;
  /** Dropout multipliers of the adapter's input, 0 or 1 / (1 - p), [rows, inputs]; none without dropout. */
  readonly mask?: Numbers;
}

function adapterInput({ x, mask }: LoraOperands): Float64Array {
  return Float64Array.from({ length: x.length }, (_, i) => at(x, i) * (mask ? at(mask, i) : 1));
}

/**
 * y = x · Wᵀ + scale · ((mask ∘ x) · Aᵀ) · Bᵀ
 *
 * @returns y [rows, outputs] and the adapter's inner activations (mask ∘ x) · Aᵀ [rows, rank]
 */
export function loraLinear(
  operands: LoraOperands,
  { rows, inputs, outputs, rank }: LoraShape,
): { y: Float64Array; inner: Float64Array } {
  const inner = matmul("nt", adapterInput(operands), operands.a, { m: rows, n: rank, k: inputs });
  const update = matmul("nt", inner, operands.b, { m: rows, n: outputs, k: rank });
  const base = matmul("nt", operands.x, operands.weight, { m: rows, n: outputs, k: inputs });
  return { y: base.map((value, i) => value + operands.scale * update[i]!), inner };
}

/**
 * Gradients of {@link loraLinear}.
 *
 * @param dy [rows, outputs]
 * @returns dx [rows, inputs], da [rank, inputs], db [outputs, rank]; the frozen weight has none
 */
export function loraLinearGrad(
  operands: LoraOperands,
  dy: Numbers,
  { rows, inputs, outputs, rank }: LoraShape,
): { dx: Float64Array; da: Float64Array; db: Float64Array } {
  const { mask, scale } = operands;
  const input = adapterInput(operands);
  const inner = matmul("nt", input, operands.a, { m: rows, n: rank, k: inputs });
  const db = matmul("tn", dy, inner, { m: outputs, n: rank, k: rows }).map((value) => scale * value);
  const dInner = matmul("nn", dy, operands.b, { m: rows, n: rank, k: outputs }).map((value) => scale * value);
  const da = matmul("tn", dInner, input, { m: rank, n: inputs, k: rows });
  const throughAdapter = matmul("nn", dInner, operands.a, { m: rows, n: inputs, k: rank });
  const throughBase = matmul("nn", dy, operands.weight, { m: rows, n: inputs, k: outputs });
  const dx = throughBase.map((value, i) => value + throughAdapter[i]! * (mask ? at(mask, i) : 1));
  return { dx, da, db };
}
