import { at, type Numbers } from "./linear.ts";

/** Settings of one AdamW step, by torch.optim.AdamW's meaning. */
export interface AdamWSettings {
  readonly learningRate: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;
  /** 1 at the first update. */
  readonly step: number;
}

/** A parameter with its two moments. */
export interface AdamWState {
  readonly parameter: Float64Array;
  readonly first: Float64Array;
  readonly second: Float64Array;
}

/**
 * One step of AdamW with decoupled weight decay and bias correction, as torch.optim.AdamW does it:
 * p ← p · (1 - lr · wd); m ← β₁m + (1-β₁)g; v ← β₂v + (1-β₂)g²;
 * p ← p - lr / (1-β₁ᵗ) · m / (sqrt(v) / sqrt(1-β₂ᵗ) + eps).
 *
 * @returns new arrays; the given ones stay as they are
 */
export function adamw(
  state: { readonly parameter: Numbers; readonly first: Numbers; readonly second: Numbers },
  gradient: Numbers,
  { learningRate, beta1, beta2, epsilon, weightDecay, step }: AdamWSettings,
): AdamWState {
  const parameter = Float64Array.from(state.parameter);
  const first = Float64Array.from(state.first);
  const second = Float64Array.from(state.second);
  for (let i = 0; i < parameter.length; i++) {
    const g = at(gradient, i);
    first[i] = beta1 * first[i]! + (1 - beta1) * g;
    second[i] = beta2 * second[i]! + (1 - beta2) * g * g;
    const denominator = Math.sqrt(second[i]!) / Math.sqrt(1 - beta2 ** step) + epsilon;
    const decayed = parameter[i]! * (1 - learningRate * weightDecay);
    parameter[i] = decayed - learningRate / (1 - beta1 ** step) * first[i]! / denominator;
  }
  return { parameter, first, second };
}

/** L2 norm over all gradients together. */
export function globalNorm(gradients: readonly Numbers[]): number {
  let squares = 0;
  for (const gradient of gradients) {
    for (let i = 0; i < gradient.length; i++) squares += at(gradient, i) ** 2;
  }
  return Math.sqrt(squares);
}

/**
 * Scales gradients to a global norm of at most `maxNorm`, as torch.nn.utils.clip_grad_norm_ does: by
 * min(1, maxNorm / (norm + 1e-6)).
 *
 * @returns the norm before clipping, the factor, and scaled copies
 */
export function clipGradients(
  gradients: readonly Numbers[],
  maxNorm: number,
): { norm: number; factor: number; clipped: Float64Array[] } {
  const norm = globalNorm(gradients);
  const factor = Math.min(1, maxNorm / (norm + 1e-6));
  return { norm, factor, clipped: gradients.map((g) => Float64Array.from(g, (value) => value * factor)) };
}
