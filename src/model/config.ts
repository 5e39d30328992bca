import { join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject, readJsonObject, show } from "./_files.ts";

/** How rotary frequencies are stretched past the context that the model was first trained with. */
export type RopeScaling =
  | { readonly type: "none" }
  /** Every frequency divided by `factor`. */
  | { readonly type: "linear"; readonly factor: number }
  /** Llama 3.1: long wavelengths divided by `factor`, short ones kept, those between interpolated. */
  | {
    readonly type: "llama3";
    readonly factor: number;
    readonly low_freq_factor: number;
    readonly high_freq_factor: number;
    readonly original_max_position_embeddings: number;
  };

/** What `config.json` says of a Llama-family decoder; names as transformers has them. */
export interface ModelConfig {
  readonly model_type: "llama";
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  /** Query heads, a multiple of num_key_value_heads. */
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  /** Size of one head; even. */
  readonly head_dim: number;
  readonly rms_norm_eps: number;
  readonly rope_theta: number;
  readonly rope_scaling: RopeScaling;
  /** The longest sequence, in tokens. */
  readonly max_position_embeddings: number;
  /** Whether the head's weight is the embedding's. */
  readonly tie_word_embeddings: boolean;
  /** Standard deviation of freshly made weights. */
  readonly initializer_range: number;
  /** Every token id that ends a text; empty where the file names none. */
  readonly eos_token_ids: readonly number[];
  readonly bos_token_id: number | null;
}

/**
 * Reads `config.json` of a model folder.
 *
 * @param dir Folder of the model's files
 * @throws InputError as parseModelConfig(), and where the file is missing or no JSON
 */
export async function readModelConfig(dir: string): Promise<ModelConfig> {
  return parseModelConfig(await readJsonObject(join(dir, "config.json")));
}

/**
 * Checks a parsed `config.json` and fills in what transformers' LlamaConfig would. Both spellings of the rotary
 * settings are read: `rope_theta` with `rope_scaling` (transformers 4) and `rope_parameters` (transformers 5).
 *
 * @param json The parsed file
 * @throws InputError for another architecture, an option that would change the mathematics, or a missing or
 * impossible number; its field is `config.json: NAME`
 *
 * @example The smallest accepted file
 * ```ts
 * import { parseModelConfig } from "./config.ts";
 * const config = parseModelConfig({
 *   model_type: "llama", vocab_size: 512, hidden_size: 64, intermediate_size: 160,
 *   num_hidden_layers: 2, num_attention_heads: 4,
 * });
 * console.log(config.head_dim); // 16
 * ```
 */
export function parseModelConfig(json: unknown): ModelConfig {
  if (!isObject(json)) {
    throw new InputError(`config.json holds ${show(json)}, not a JSON object.`, {
      field: "config.json",
      value: json,
      accepted: "a JSON object",
    });
  }
  refuseOtherModels(json);
  const count = (name: string, fallback?: number): number => readCount(json, name, fallback);
  const hidden_size = count("hidden_size");
  const num_attention_heads = count("num_attention_heads");
  const num_key_value_heads = count("num_key_value_heads", num_attention_heads);
  if (num_attention_heads % num_key_value_heads !== 0) {
    refuse(
      "num_key_value_heads",
      num_key_value_heads,
      `a divisor of num_attention_heads (${num_attention_heads})`,
    );
  }
  if (isAbsent(json.head_dim) && hidden_size % num_attention_heads !== 0) {
    refuse(
      "hidden_size",
      hidden_size,
      `a multiple of num_attention_heads (${num_attention_heads}), or a head_dim`,
    );
  }
  const head_dim = count("head_dim", hidden_size / num_attention_heads);
  if (head_dim % 2 !== 0) refuse("head_dim", head_dim, "an even number, as rotary embedding turns pairs");
  const max_position_embeddings = count("max_position_embeddings", 2048);
  const rms_norm_eps = readNumber(json, "rms_norm_eps", "rms_norm_eps", 1e-6);
  if (rms_norm_eps < 0) refuse("rms_norm_eps", rms_norm_eps, "a number >= 0");
  const initializer_range = readNumber(json, "initializer_range", "initializer_range", 0.02);
  if (initializer_range < 0) refuse("initializer_range", initializer_range, "a number >= 0");
  return {
    model_type: "llama",
    vocab_size: count("vocab_size"),
    hidden_size,
    intermediate_size: count("intermediate_size"),
    num_hidden_layers: count("num_hidden_layers"),
    num_attention_heads,
    num_key_value_heads,
    head_dim,
    rms_norm_eps,
    ...readRope(json, max_position_embeddings),
    max_position_embeddings,
    tie_word_embeddings: readFlag(json, "tie_word_embeddings"),
    initializer_range,
    eos_token_ids: readTokenIds(json, "eos_token_id"),
    bos_token_id: readTokenIds(json, "bos_token_id")[0] ?? null,
  };
}

/**
 * Rotary angles a position: pair i of a head turns by position * frequency[i].
 *
 * Every step is rounded to f32 in the order in which PyTorch does it (a scalar over a tensor is a reciprocal, then a
 * product), after transformers' `modeling_rope_utils.py`. The power is rounded correctly, PyTorch's vectorised one
 * is off by one unit in the last place now and then.
 *
 * @returns [head_dim / 2]
 */
export function ropeFrequencies(config: ModelConfig): Float32Array<ArrayBuffer> {
  const { head_dim, rope_theta, rope_scaling } = config;
  const f32 = Math.fround;
  const base = f32(rope_theta);
  return Float32Array.from({ length: head_dim / 2 }, (_, i) => {
    const frequency = f32(1 / f32(base ** f32(2 * i / head_dim)));
    if (rope_scaling.type === "none") return frequency;
    const factor = f32(rope_scaling.factor);
    if (rope_scaling.type === "linear") return f32(frequency / factor);
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

/** Refuses what this decoder would compute wrongly. Fields that do not enter Llama's mathematics are ignored. */
function refuseOtherModels(json: Record<string, unknown>): void {
  const only = (name: string, allowed: unknown, accepted: string): void => {
    if (!isAbsent(json[name]) && json[name] !== allowed) refuse(name, json[name], accepted);
  };
  if (json.model_type !== "llama") refuse("model_type", json.model_type, `"llama"`);
  const { architectures } = json;
  if (
    !isAbsent(architectures) && !(Array.isArray(architectures) && architectures.includes("LlamaForCausalLM"))
  ) {
    refuse("architectures", architectures, `["LlamaForCausalLM"]`);
  }
  only("hidden_act", "silu", `"silu"`);
  only("attention_bias", false, "false: projections have no bias here");
  only("mlp_bias", false, "false: projections have no bias here");
  only("partial_rotary_factor", 1, "1: the whole head is rotated");
  only("quantization_config", null, "weights that are not quantised (F32, F16 or BF16)");
}

/** Rotary settings in either spelling; where both stand in the file, `rope_scaling` wins, as in transformers 5. */
function readRope(
  json: Record<string, unknown>,
  maxPositions: number,
): Pick<ModelConfig, "rope_theta" | "rope_scaling"> {
  const name = isEmpty(json.rope_scaling) ? "rope_parameters" : "rope_scaling";
  const rope = json[name] ?? {};
  if (!isObject(rope)) refuse(name, rope, "an object or null");
  const number = (key: string, fallback?: number): number => {
    const value = readNumber(rope, key, `${name}.${key}`, fallback);
    if (value <= 0) refuse(`${name}.${key}`, value, "a number > 0");
    return value;
  };
  const inside = !isAbsent(rope.rope_theta);
  const rope_theta = inside ? number("rope_theta") : readNumber(json, "rope_theta", "rope_theta", 10_000);
  if (rope_theta <= 0) refuse("rope_theta", rope_theta, "a number > 0");
  if (!isAbsent(rope.partial_rotary_factor) && rope.partial_rotary_factor !== 1) {
    refuse(`${name}.partial_rotary_factor`, rope.partial_rotary_factor, "1: the whole head is rotated");
  }
  const key = isAbsent(rope.rope_type) && !isAbsent(rope.type) ? "type" : "rope_type";
  const type = rope[key] ?? "default";
  // Settings of this family are flat: an object inside holds those of one kind of layer, which Llama has not.
  const nested = Object.entries(rope).find(([, value]) => isObject(value));
  if (nested !== undefined) {
    refuse(`${name}.${nested[0]}`, nested[1], "one set of rotary settings for all layers");
  }
  switch (type) {
    case "default":
      return { rope_theta, rope_scaling: { type: "none" } };
    case "linear":
      return { rope_theta, rope_scaling: { type: "linear", factor: number("factor") } };
    case "llama3": {
      const outside = !isAbsent(json.original_max_position_embeddings);
      const scaling = {
        type: "llama3",
        factor: number("factor"),
        low_freq_factor: number("low_freq_factor"),
        high_freq_factor: number("high_freq_factor"),
        original_max_position_embeddings: outside
          ? readCount(json, "original_max_position_embeddings")
          : number("original_max_position_embeddings", maxPositions),
      } as const;
      if (scaling.high_freq_factor <= scaling.low_freq_factor) {
        refuse(`${name}.high_freq_factor`, scaling.high_freq_factor, `more than low_freq_factor`);
      }
      return { rope_theta, rope_scaling: scaling };
    }
    default:
      refuse(`${name}.${key}`, type, `"default", "linear" or "llama3"`);
  }
}

function isAbsent(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

function isEmpty(value: unknown): boolean {
  return isAbsent(value) || (isObject(value) && Object.keys(value).length === 0);
}

function readNumber(from: Record<string, unknown>, key: string, field: string, fallback?: number): number {
  const value = isAbsent(from[key]) ? fallback : from[key];
  if (typeof value !== "number" || !Number.isFinite(value)) refuse(field, from[key], "a number");
  return value;
}

function readCount(json: Record<string, unknown>, name: string, fallback?: number): number {
  const value = isAbsent(json[name]) ? fallback : json[name];
  // A u32 on the GPU.
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1 || value > 0xffffffff) {
    refuse(name, json[name], "a whole number >= 1");
  }
  return value;
}

function readFlag(json: Record<string, unknown>, name: string): boolean {
  const value = json[name] ?? false;
  if (typeof value !== "boolean") refuse(name, value, "true or false");
  return value;
}

function readTokenIds(json: Record<string, unknown>, name: string): readonly number[] {
  const value = json[name];
  if (isAbsent(value)) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  const isId = (id: unknown): id is number => typeof id === "number" && Number.isInteger(id) && id >= 0;
  if (!ids.every(isId)) refuse(name, value, "a token id, a list of them or null");
  return ids;
}

function refuse(name: string, value: unknown, accepted: string): never {
  const found = isAbsent(value) ? "is missing" : `is ${show(value)}`;
  throw new InputError(`config.json: ${name} ${found}, but must be ${accepted}.`, {
    field: `config.json: ${name}`,
    value,
    accepted,
  });
}
