/** What `config.json` says of rotary embedding. */
import { isObject } from "../json.ts";
import {
  type Fields,
  isAbsent,
  isEmpty,
  MOST_POSITIONS,
  readCount,
  readFlag,
  readNumber,
  readPositive,
  refuse,
} from "./_fields.ts";
import { ropeAttentionFactor, ropeFrequencies, type RopeScaling, type RopeSettings } from "./rope.ts";

/**
 * Rotary settings in either spelling: `rope_theta` with `rope_scaling` (transformers 4) and `rope_parameters`
 * (transformers 5). Where both stand in the file, `rope_scaling` wins, as in transformers 5.
 *
 * @param layers the key under `rope_parameters` where a file holds one set for each kind of layer
 * @param head_dim of which `partial_rotary_factor` may rotate a part
 */
export function readRope(
  json: Fields,
  maxPositions: number,
  head_dim: number,
  layers?: string,
): RopeSettings {
  const { rope_scaling, rope_parameters } = json; // both are read in any case: what the other one says is not heeded
  let name = isEmpty(rope_scaling) ? "rope_parameters" : "rope_scaling";
  let rope = (name === "rope_scaling" ? rope_scaling : rope_parameters) ?? {};
  if (!isObject(rope)) refuse(name, rope, "an object or null");
  if (layers !== undefined && isObject(rope[layers])) {
    rope = rope[layers];
    name = `${name}.${layers}`;
    if (!isObject(rope)) refuse(name, rope, "an object");
  }
  const settings = rope;
  const positive = (key: string, fallback?: number): number =>
    readPositive(settings, key, `${name}.${key}`, fallback);
  // read in any case: beside the inner one it says nothing
  const outer = readPositive(json, "rope_theta", "rope_theta", 10_000);
  const rope_theta = isAbsent(settings.rope_theta) ? outer : positive("rope_theta");
  const within = !isAbsent(settings.partial_rotary_factor);
  const partial = within
    ? positive("partial_rotary_factor")
    : readNumber(json, "partial_rotary_factor", "partial_rotary_factor", 1);
  const rotary_dim = Math.trunc(head_dim * partial);
  if (head_dim % 2 !== 0 && partial === 1) {
    refuse("head_dim", head_dim, "an even number, as rotary embedding turns pairs");
  }
  if (rotary_dim % 2 !== 0 || rotary_dim < 2 || rotary_dim > head_dim) {
    refuse(
      "partial_rotary_factor",
      partial,
      `a part of head_dim ${head_dim} that is an even number of dimensions`,
    );
  }
  const read = {
    rotary_dim,
    rope_theta,
    rope_scaling: readScaling(json, settings, name, maxPositions, rotary_dim, positive),
  };
  const angles = [1, MOST_POSITIONS].flatMap((length) => [...ropeFrequencies(read, length)]);
  if (![...angles, Math.fround(ropeAttentionFactor(read))].every(Number.isFinite)) {
    const [field, value] = isEmpty(settings) ? ["rope_theta", rope_theta] : [name, settings];
    refuse(field!, value, "of numbers by which every angle is finite in f32");
  }
  return read;
}

function readScaling(
  json: Fields,
  rope: Fields,
  name: string,
  maxPositions: number,
  rotary_dim: number,
  positive: (key: string, fallback?: number) => number,
): RopeScaling {
  const key = isAbsent(rope.rope_type) && !isAbsent(rope.type) ? "type" : "rope_type";
  const type = rope[key] ?? "default";
  const original = () => {
    const inner = positive("original_max_position_embeddings", maxPositions);
    return isAbsent(json.original_max_position_embeddings)
      ? inner
      : readCount(json, "original_max_position_embeddings", undefined, MOST_POSITIONS);
  };
  switch (type) {
    case "default":
      return { type: "none" };
    case "linear":
      return { type: "linear", factor: positive("factor") };
    case "dynamic":
      return { type: "dynamic", factor: positive("factor"), original_max_position_embeddings: maxPositions };
    case "longrope":
    case "su": {
      const context = original();
      return {
        type: "longrope",
        short_factor: factors(rope, "short_factor", name, rotary_dim),
        long_factor: factors(rope, "long_factor", name, rotary_dim),
        attention_factor: longropeAttentionFactor(rope, maxPositions / context, context, positive),
        original_max_position_embeddings: context,
      };
    }
    case "llama3": {
      const scaling = {
        type: "llama3" as const,
        factor: positive("factor"),
        low_freq_factor: positive("low_freq_factor"),
        high_freq_factor: positive("high_freq_factor"),
        original_max_position_embeddings: original(),
      };
      if (scaling.high_freq_factor <= scaling.low_freq_factor) {
        refuse(`${name}.high_freq_factor`, scaling.high_freq_factor, `more than low_freq_factor`);
      }
      return scaling;
    }
    case "yarn": {
      const factor = positive("factor");
      return {
        type: "yarn",
        factor,
        beta_fast: positive("beta_fast", 32),
        beta_slow: positive("beta_slow", 1),
        truncate: isAbsent(rope.truncate) || readFlag(rope, "truncate"),
        attention_factor: yarnAttentionFactor(rope, factor, positive),
        original_max_position_embeddings: original(),
      };
    }
    default:
      refuse(`${name}.${key}`, type, `"default", "linear", "dynamic", "llama3", "yarn" or "longrope"`);
  }
}

function yarnAttentionFactor(rope: Fields, factor: number, positive: (key: string) => number): number {
  if (!isAbsent(rope.attention_factor)) return positive("attention_factor");
  const scale = (weight: number) => factor <= 1 ? 1 : 0.1 * weight * Math.log(factor) + 1;
  if (isAbsent(rope.mscale) || isAbsent(rope.mscale_all_dim)) return scale(1);
  return scale(positive("mscale")) / scale(positive("mscale_all_dim"));
}

function longropeAttentionFactor(
  rope: Fields,
  stretch: number,
  context: number,
  positive: (key: string) => number,
): number {
  if (!isAbsent(rope.attention_factor)) return positive("attention_factor");
  const factor = isAbsent(rope.factor) ? stretch : positive("factor");
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(context));
}

/** One factor a pair of rotated dimensions. */
function factors(rope: Fields, key: string, name: string, rotary_dim: number): readonly number[] {
  const value = rope[key];
  const isFactor = (factor: unknown): factor is number =>
    typeof factor === "number" && Math.fround(factor) > 0 && Number.isFinite(Math.fround(factor));
  if (!Array.isArray(value) || value.length !== rotary_dim / 2 || !value.every(isFactor)) {
    refuse(`${name}.${key}`, value, `a list of ${rotary_dim / 2} numbers > 0`);
  }
  return value;
}
