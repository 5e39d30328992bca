import { join } from "node:path";
import { InputError } from "../errors.ts";
import { type Fields, isAbsent, readCount, readFlag, readNumber, readTokenIds, refuse } from "./_fields.ts";
import { isObject, show } from "../json.ts";
import { readJsonObject } from "./_files.ts";
import { gemma2, gemma3 } from "./families/gemma.ts";
import { gpt2 } from "./families/gpt2.ts";
import { llama } from "./families/llama.ts";
import { mistral } from "./families/mistral.ts";
import { phi3 } from "./families/phi3.ts";
import { qwen2, qwen3 } from "./families/qwen.ts";
import type { Family, Traits } from "./families/family.ts";

const FAMILIES: readonly Family[] = [llama, mistral, qwen2, qwen3, gemma2, gemma3, phi3, gpt2];

/** What `config.json` says of a decoder; names as transformers has them. */
export interface ModelConfig {
  readonly model_type: string;
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  /** Query heads, a multiple of num_key_value_heads. */
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  /** Size of one head; even. */
  readonly head_dim: number;
  /** Added to the variance in every norm. */
  readonly rms_norm_eps: number;
  /** The longest sequence that the model was trained with, in tokens. */
  readonly max_position_embeddings: number;
  /** The longest sequence that the rotary scaling makes of it. */
  readonly context_length: number;
  /** Whether the head's weight is the embedding's. */
  readonly tie_word_embeddings: boolean;
  /** Standard deviation of freshly made weights. */
  readonly initializer_range: number;
  /** Every token id that ends a text; empty where the file names none. */
  readonly eos_token_ids: readonly number[];
  readonly bos_token_id: number | null;
  readonly traits: Traits;
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
 * Checks a parsed `config.json` and fills in what transformers would.
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
      path: [{ file: "config.json" }],
      value: json,
      accepted: "a JSON object",
    });
  }
  const family = familyOf(json);
  const fieldOf = (name: string): string => family.fields?.[name] ?? name;
  const count = (name: string, fallback?: number): number => readCount(json, fieldOf(name), fallback);
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
  const { defaults } = family;
  if (isAbsent(json.head_dim) && defaults.head_dim === undefined && hidden_size % num_attention_heads !== 0) {
    refuse(
      fieldOf("hidden_size"),
      hidden_size,
      `a multiple of ${fieldOf("num_attention_heads")} (${num_attention_heads}), or a head_dim`,
    );
  }
  const head_dim = count("head_dim", defaults.head_dim ?? hidden_size / num_attention_heads);
  if (head_dim % 2 !== 0) refuse("head_dim", head_dim, "an even number, as rotary embedding turns pairs");
  const max_position_embeddings = count("max_position_embeddings", defaults.max_position_embeddings ?? 2048);
  const eps = fieldOf("rms_norm_eps");
  const rms_norm_eps = readNumber(json, eps, eps, defaults.rms_norm_eps ?? 1e-6);
  if (rms_norm_eps < 0) refuse(eps, rms_norm_eps, "a number >= 0");
  const initializer_range = readNumber(json, "initializer_range", "initializer_range", 0.02);
  if (initializer_range < 0) refuse("initializer_range", initializer_range, "a number >= 0");
  const num_hidden_layers = count("num_hidden_layers");
  const sizes = { hidden_size, head_dim, num_hidden_layers, max_position_embeddings };
  const traits = family.traits(json, sizes);
  const stretches = traits.ropes.map(({ rope_scaling }) =>
    rope_scaling.type === "dynamic" ? rope_scaling.factor : 1
  );
  const stretch = stretches.length > 0 ? Math.max(1, Math.min(...stretches)) : 1;
  const per_hidden = defaults.intermediate_per_hidden;
  return {
    model_type: family.model_type,
    vocab_size: count("vocab_size"),
    hidden_size,
    intermediate_size: count("intermediate_size", per_hidden && per_hidden * hidden_size),
    num_hidden_layers,
    num_attention_heads,
    num_key_value_heads,
    head_dim,
    rms_norm_eps,
    max_position_embeddings,
    context_length: Math.floor(max_position_embeddings * stretch),
    tie_word_embeddings: readFlag(json, "tie_word_embeddings", defaults.tie_word_embeddings ?? false),
    initializer_range,
    eos_token_ids: readTokenIds(json, "eos_token_id"),
    bos_token_id: readTokenIds(json, "bos_token_id")[0] ?? null,
    traits,
  };
}

/** The family that a file names. */
function familyOf(json: Fields): Family {
  const { model_type, architectures } = json;
  const family = FAMILIES.find((family) => family.model_type === model_type);
  if (!family) {
    refuse("model_type", model_type, FAMILIES.map((family) => `"${family.model_type}"`).join(", "));
  }
  const named = isAbsent(architectures) ||
    (Array.isArray(architectures) && architectures.includes(family.architecture));
  if (!named) refuse("architectures", architectures, `["${family.architecture}"]`);
  if (!isAbsent(json.quantization_config)) {
    refuse(
      "quantization_config",
      json.quantization_config,
      "weights that are not quantised (F32, F16 or BF16)",
    );
  }
  return family;
}
