import { at, type Numbers } from "./linear.ts";

/**
 * Gathers rows of an embedding table.
 *
 * @param table [vocabulary, width]
 * @param ids [tokens]
 * @returns [tokens, width]
 */
export function embedding(table: Numbers, ids: Numbers, width: number): Float64Array {
  const out = new Float64Array(ids.length * width);
  for (let token = 0; token < ids.length; token++) {
    for (let c = 0; c < width; c++) out[token * width + c] = at(table, at(ids, token) * width + c);
  }
  return out;
}

/**
 * Gradient of {@link embedding}: adds each token's gradient to its row of the table.
 *
 * @param dy [tokens, width]
 * @returns [vocabulary, width]
 */
export function embeddingGrad(dy: Numbers, ids: Numbers, vocabulary: number, width: number): Float64Array {
  const out = new Float64Array(vocabulary * width);
  for (let token = 0; token < ids.length; token++) {
    const row = at(ids, token);
    if (row >= vocabulary) throw new RangeError(`token id ${row} is outside a vocabulary of ${vocabulary}`);
    for (let c = 0; c < width; c++) out[row * width + c]! += at(dy, token * width + c);
  }
  return out;
}

/**
 * y = x + bias, the same bias in every row.
 *
 * @param x [rows, width]
 * @param bias [width]
 * @returns [rows, width]
 */
export function addBias(x: Numbers, bias: Numbers): Float64Array {
  return Float64Array.from(x, (value, i) => value + at(bias, i % bias.length));
}

/** Gradient of {@link addBias} by the bias: the sum of dy [rows, width] over its rows. */
export function addBiasGrad(dy: Numbers, width: number): Float64Array {
  const out = new Float64Array(width);
  for (let i = 0; i < dy.length; i++) out[i % width]! += at(dy, i);
  return out;
}

/**
 * Root-mean-square norm of each row: y = x · rstd · w with rstd = 1 / sqrt(mean(x²) + eps).
 *
 * @param x [rows, width]
 * @param weight [width]
 * @returns y [rows, width] and rstd [rows]
 */
export function rmsNorm(
  x: Numbers,
  weight: Numbers,
  width: number,
  eps: number,
): { y: Float64Array; rstd: Float64Array } {
  const rows = x.length / width;
  const y = new Float64Array(x.length);
  const rstd = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    let squares = 0;
    for (let c = 0; c < width; c++) squares += at(x, row * width + c) ** 2;
    rstd[row] = 1 / Math.sqrt(squares / width + eps);
    for (let c = 0; c < width; c++) y[row * width + c] = at(x, row * width + c) * rstd[row]! * at(weight, c);
  }
  return { y, rstd };
}

/**
 * Gradient of {@link rmsNorm}: dx = rstd · (dy ∘ w - x · rstd² · mean(dy ∘ w ∘ x)), dw = sum over rows of dy ∘ x · rstd.
 *
 * @param dy [rows, width]
 * @returns dx [rows, width] and dw [width]
 */
export function rmsNormGrad(
  x: Numbers,
  weight: Numbers,
  dy: Numbers,
  width: number,
  eps: number,
): { dx: Float64Array; dw: Float64Array } {
  const { rstd } = rmsNorm(x, weight, width, eps);
  const dx = new Float64Array(x.length);
  const dw = new Float64Array(width);
  for (let row = 0; row < rstd.length; row++) {
    const r = rstd[row]!;
    let dot = 0;
    for (let c = 0; c < width; c++) dot += at(dy, row * width + c) * at(weight, c) * at(x, row * width + c);
    for (let c = 0; c < width; c++) {
      const i = row * width + c;
      dx[i] = r * (at(dy, i) * at(weight, c) - at(x, i) * r * r * dot / width);
      dw[c]! += at(dy, i) * at(x, i) * r;
    }
  }
  return { dx, dw };
}

/**
 * Layer norm of each row: y = x̂ · w + b with x̂ = (x - mean) · rstd, rstd = 1 / sqrt(mean((x - mean)²) + eps).
 *
 * @param x [rows, width]
 * @param weight [width]
 * @param bias [width]
 * @returns y [rows, width], mean and rstd [rows]
 */
export function layerNorm(
  x: Numbers,
  weight: Numbers,
  bias: Numbers,
  width: number,
  eps: number,
): { y: Float64Array; mean: Float64Array; rstd: Float64Array } {
  const rows = x.length / width;
  const y = new Float64Array(x.length);
  const mean = new Float64Array(rows);
  const rstd = new Float64Array(rows);
  for (let row = 0; row < rows; row++) {
    for (let c = 0; c < width; c++) mean[row]! += at(x, row * width + c) / width;
    let squares = 0;
    for (let c = 0; c < width; c++) squares += (at(x, row * width + c) - mean[row]!) ** 2;
    rstd[row] = 1 / Math.sqrt(squares / width + eps);
    for (let c = 0; c < width; c++) {
      const i = row * width + c;
      y[i] = (at(x, i) - mean[row]!) * rstd[row]! * at(weight, c) + at(bias, c);
    }
  }
  return { y, mean, rstd };
}

/**
 * Gradient of {@link layerNorm}, with g = dy ∘ w: dx = rstd · (g - mean(g) - x̂ · mean(g ∘ x̂)), dw = sum over rows of
 * dy ∘ x̂, db = sum over rows of dy.
 *
 * @param dy [rows, width]
 * @returns dx [rows, width], dw and db [width]
 */
export function layerNormGrad(
  x: Numbers,
  weight: Numbers,
  dy: Numbers,
  width: number,
  eps: number,
): { dx: Float64Array; dw: Float64Array; db: Float64Array } {
  const { mean, rstd } = layerNorm(x, weight, weight, width, eps);
  const dx = new Float64Array(x.length);
  const dw = new Float64Array(width);
  for (let row = 0; row < rstd.length; row++) {
    const xhat = (c: number) => (at(x, row * width + c) - mean[row]!) * rstd[row]!;
    const g = (c: number) => at(dy, row * width + c) * at(weight, c);
    let [sum, dot] = [0, 0];
    for (let c = 0; c < width; c++) {
      sum += g(c);
      dot += g(c) * xhat(c);
    }
    for (let c = 0; c < width; c++) {
      dx[row * width + c] = rstd[row]! * (g(c) - sum / width - xhat(c) * dot / width);
      dw[c]! += at(dy, row * width + c) * xhat(c);
    }
  }
  return { dx, dw, db: addBiasGrad(dy, width) };
}

/**
 * Cosines and sines of the rotary angles position · frequency. Hugging Face's tables repeat them for the second
 * half of the head; here each is kept once.
 *
 * @param positions [tokens]
 * @param frequencies [headDim / 2]
 * @returns cos and sin, [tokens, headDim / 2]
 */
export function ropeTables(
  positions: Numbers,
  frequencies: Numbers,
): { cos: Float64Array; sin: Float64Array } {
  const half = frequencies.length;
  const angles = Float64Array.from(
    { length: positions.length * half },
    (_, i) => at(positions, Math.floor(i / half)) * at(frequencies, i % half),
  );
  return { cos: angles.map(Math.cos), sin: angles.map(Math.sin) };
}

/** Sizes of a rotary embedding. */
export interface RopeShape {
  readonly tokens: number;
  readonly heads: number;
  readonly headDim: number;
}

/**
 * Rotary embedding in Hugging Face's rotate-half layout: component c of a head turns together with c + headDim / 2.
 *
 * y[c] = x[c] · cos - x[c + half] · sin;  y[c + half] = x[c + half] · cos + x[c] · sin
 *
 * @param x [tokens, heads, headDim]
 * @param cos [tokens, headDim / 2]
 * @param sin [tokens, headDim / 2]
 * @returns [tokens, heads, headDim]
 */
export function rope(x: Numbers, cos: Numbers, sin: Numbers, shape: RopeShape): Float64Array {
  return rotate(x, cos, sin, shape, 1);
}

/** The inverse rotation of {@link rope}, which is also its gradient: a rotation's transpose is its inverse. */
export function ropeInverse(y: Numbers, cos: Numbers, sin: Numbers, shape: RopeShape): Float64Array {
  return rotate(y, cos, sin, shape, -1);
}

function rotate(
  x: Numbers,
  cos: Numbers,
  sin: Numbers,
  { tokens, heads, headDim }: RopeShape,
  direction: number,
): Float64Array {
  const half = headDim / 2;
  const out = new Float64Array(tokens * heads * headDim);
  for (let token = 0; token < tokens; token++) {
    for (let head = 0; head < heads; head++) {
      for (let c = 0; c < half; c++) {
        const first = (token * heads + head) * headDim + c;
        const second = first + half;
        const cosine = at(cos, token * half + c);
        const sine = direction * at(sin, token * half + c);
        out[first] = at(x, first) * cosine - at(x, second) * sine;
        out[second] = at(x, second) * cosine + at(x, first) * sine;
      }
    }
  }
  return out;
}

/** 1 / (1 + e^-x), without overflow. */
export function sigmoid(x: number): number {
  return x >= 0 ? 1 / (1 + Math.exp(-x)) : Math.exp(x) / (1 + Math.exp(x));
}

/** An elementwise function with its derivative. */
export interface Activation {
  value(x: number): number;
  slope(x: number): number;
}

const GELU_ROOT = Math.sqrt(2 / Math.PI);

/** silu(x) = x · sigmoid(x); gelu_tanh(x) = x / 2 · (1 + tanh(u)), u = sqrt(2 / π) · (x + 0.044715 x³). */
export const ACTIVATIONS: Readonly<Record<"silu" | "gelu_tanh", Activation>> = {
  silu: {
    value: (x) => x * sigmoid(x),
    slope: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  },
  gelu_tanh: {
    value: (x) => x / 2 * (1 + Math.tanh(GELU_ROOT * (x + 0.044715 * x ** 3))),
    slope: (x) => {
      const tanh = Math.tanh(GELU_ROOT * (x + 0.044715 * x ** 3));
      return (1 + tanh) / 2 + x / 2 * (1 - tanh ** 2) * GELU_ROOT * (1 + 3 * 0.044715 * x ** 2);
    },
  },
};

/** activation(gate) · up, element by element. */
export function gatedActivation({ value }: Activation, gate: Numbers, up: Numbers): Float64Array {
  return Float64Array.from({ length: gate.length }, (_, i) => value(at(gate, i)) * at(up, i));
}

/** Gradients of {@link gatedActivation}: dUp = dy · act(g), dGate = dy · up · act'(g). */
export function gatedActivationGrad(
  { value, slope }: Activation,
  gate: Numbers,
  up: Numbers,
  dy: Numbers,
): { dGate: Float64Array; dUp: Float64Array } {
  const dGate = new Float64Array(gate.length);
  const dUp = new Float64Array(gate.length);
  for (let i = 0; i < gate.length; i++) {
    dUp[i] = at(dy, i) * value(at(gate, i));
    dGate[i] = at(dy, i) * at(up, i) * slope(at(gate, i));
  }
  return { dGate, dUp };
}

/** cap · tanh(x / cap), element by element. */
export function softCap(x: Numbers, cap: number): Float64Array {
  return Float64Array.from(x, (value) => cap * Math.tanh(value / cap));
}

/** The derivative of {@link softCap} by each element: 1 - tanh²(x / cap). */
export function softCapGrad(x: Numbers, cap: number): Float64Array {
  return Float64Array.from(x, (value) => 1 - Math.tanh(value / cap) ** 2);
}
