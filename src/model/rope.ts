/** The angles of rotary embedding. */
import type { EncodedGroup } from "../preference/encode.ts";
import { withoutSharedPrompt } from "../preference/pack.ts";

/** How rotary frequencies are stretched past the context that the model was first trained with. */
export type RopeScaling =
  | { readonly type: "none" }
  /** Every frequency divided by `factor`. */
  | { readonly type: "linear"; readonly factor: number }
  /** A base that grows with the sequence once it passes the first context. */
  | { readonly type: "dynamic"; readonly factor: number; readonly original_max_position_embeddings: number }
  /** LongRoPE (arXiv 2402.13753): every pair divided by its own factor, another one in sequences past the first context. */
  | {
    readonly type: "longrope";
    readonly short_factor: readonly number[];
    readonly long_factor: readonly number[];
    /** Multiplies cosines and sines. */
    readonly attention_factor: number;
    readonly original_max_position_embeddings: number;
  }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated. */
  | {
    readonly type: "llama3";
    readonly factor: number;
    readonly low_freq_factor: number;
    readonly high_freq_factor: number;
    readonly original_max_position_embeddings: number;
  }
  /** YaRN (arXiv 2309.00071): dimensions that turn seldom divided by `factor`, a ramp between; softmax sharpened. */
  | {
    readonly type: "yarn";
    readonly factor: number;
    readonly beta_fast: number;
    readonly beta_slow: number;
    readonly truncate: boolean;
    /** Multiplies cosines and sines. */
    readonly attention_factor: number;
    readonly original_max_position_embeddings: number;
  };

/** One set of rotary angles. */
export interface RopeSettings {
  /** Rotated dimensions of a head, from its first; even. */
  readonly rotary_dim: number;
  readonly rope_theta: number;
  readonly rope_scaling: RopeScaling;
}

/**
 * Rotary angles a position: pair i of a head turns by position * frequency[i].
 *
 * Every step is rounded to f32 in the order in which PyTorch does it (a scalar over a tensor is a reciprocal, then a
 * product), after transformers' `modeling_rope_utils.py`. The power is rounded correctly, PyTorch's vectorised one
 * is off by one unit in the last place now and then.
 *
 * @param length tokens of the whole sequence, which counts where {@link dependsOnLength}
 * @returns [rotary_dim / 2]
 *
 * @example Plain rotary embedding of a head of four
 * ```ts
 * import assert from "node:assert/strict";
 * import { ropeFrequencies } from "./rope.ts";
 * const plain = { rotary_dim: 4, rope_theta: 10_000, rope_scaling: { type: "none" } } as const;
 * assert.deepEqual([...ropeFrequencies(plain)], [1, Math.fround(0.01)]);
 * ```
 */
export function ropeFrequencies(settings: RopeSettings, length = 1): Float32Array<ArrayBuffer> {
  const { rotary_dim, rope_theta, rope_scaling } = settings;
  const f32 = Math.fround;
  let base = f32(rope_theta);
  if (rope_scaling.type === "dynamic") base = f32(dynamicBase(rope_scaling, rope_theta, rotary_dim, length));
  return Float32Array.from({ length: rotary_dim / 2 }, (_, i) => {
    const power = f32(base ** f32(2 * i / rotary_dim));
    if (rope_scaling.type === "longrope") {
      const long = length > rope_scaling.original_max_position_embeddings;
      return f32(1 / f32(f32((long ? rope_scaling.long_factor : rope_scaling.short_factor)[i]!) * power));
    }
    const frequency = f32(1 / power);
    if (rope_scaling.type === "none" || rope_scaling.type === "dynamic") return frequency;
    const factor = f32(rope_scaling.factor);
    if (rope_scaling.type === "linear") return f32(frequency / factor);
    if (rope_scaling.type === "yarn") {
      const ramp = yarnRamp(rope_scaling, rope_theta, rotary_dim, i);
      const interpolated = f32(1 / f32(factor * power));
      const kept = f32(1 - ramp);
      return f32(f32(interpolated * f32(1 - kept)) + f32(frequency * kept));
    }
    const { low_freq_factor: low, high_freq_factor: high, original_max_position_embeddings: context } =
      rope_scaling;
    const wavelength = f32(f32(1 / frequency) * f32(2 * Math.PI));
    if (wavelength > f32(context / low)) return f32(frequency / factor);
    if (wavelength < f32(context / high)) return frequency;
    const turns = f32(f32(1 / wavelength) * f32(context));
    const smooth = f32(f32(turns - f32(low)) / f32(high - low));
    return f32(f32(f32(f32(1 - smooth) * frequency) / factor) + f32(smooth * frequency));
  });
}

/** What multiplies cosines and sines. */
export function ropeAttentionFactor({ rope_scaling }: RopeSettings): number {
  return "attention_factor" in rope_scaling ? rope_scaling.attention_factor : 1;
}

/** Whether a sequence's length changes the angles of all its tokens. */
export function dependsOnLength({ rope_scaling }: RopeSettings): boolean {
  return rope_scaling.type === "dynamic" || rope_scaling.type === "longrope";
}

/**
 * Responses of which one is long and one short turn a shared prompt by different angles; such a group is laid out with
 * the prompt before each of them.
 */
export function alignSharing(ropes: readonly RopeSettings[], group: EncodedGroup): EncodedGroup {
  const lengths = group.responses.map(({ tokens }) => group.prompt.length + tokens.length);
  const agree = ropes.every((rope) => new Set(lengths.map((length) => regime(rope, length))).size <= 1);
  return agree ? group : withoutSharedPrompt(group);
}

/** Sequences of one regime have the same angles. */
function regime({ rope_scaling }: RopeSettings, length: number): number {
  if (rope_scaling.type !== "dynamic" && rope_scaling.type !== "longrope") return 0;
  if (length <= rope_scaling.original_max_position_embeddings) return 0;
  return rope_scaling.type === "longrope" ? 1 : length;
}

function dynamicBase(
  { factor, original_max_position_embeddings: context }: Extract<RopeScaling, { type: "dynamic" }>,
  base: number,
  dim: number,
  length: number,
): number {
  const stretch = factor * Math.max(length, context) / context - (factor - 1);
  return base * stretch ** (dim / (dim - 2));
}

/** How much of pair i is interpolated: 0 where it turns often within the first context, 1 where seldom. */
function yarnRamp(
  { beta_fast, beta_slow, truncate, original_max_position_embeddings }: Extract<
    RopeScaling,
    { type: "yarn" }
  >,
  base: number,
  dim: number,
  i: number,
): number {
  const pairTurning = (rotations: number) =>
    dim * Math.log(original_max_position_embeddings / (rotations * 2 * Math.PI)) / (2 * Math.log(base));
  const [fast, slow] = [pairTurning(beta_fast), pairTurning(beta_slow)];
  const low = Math.max(truncate ? Math.floor(fast) : fast, 0);
  let high = Math.min(truncate ? Math.ceil(slow) : slow, dim - 1);
  if (low === high) high += 0.001; // as transformers does, against 0 / 0
  return Math.min(1, Math.max(0, Math.fround(Math.fround(i - low) / Math.fround(high - low))));
}
