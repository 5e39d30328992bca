import { join } from "node:path";
import { InputError } from "../errors.ts";
import {
  type Fields,
  isAbsent,
  MOST_POSITIONS,
  readCount,
  readFlag,
  readNumber,
  readTokenIds,
  recorded,
  refuse,
} from "./_fields.ts";
import { isObject, show } from "../json.ts";
import { readJsonObject } from "./_files.ts";
import { heedWeights, quantizationIn } from "./_stored_weights.ts";
import { checkUnread } from "./_unread_fields.ts";
import * as known from "./families/mod.ts";
import { WeightFiles } from "./safetensors.ts";
import { holdsWeights } from "./weight_folder.ts";
import type { Family, Wrapper } from "./families/family.ts";
import type { DecoderPlan } from "./plan.ts";

const FAMILIES: readonly (Family | Wrapper)[] = Object.values(known);

/** Layers of a model: each has a dozen weights by name. */
const MOST_LAYERS = 2000;

/** Dimensions of a head, hundreds of times those of any model. */
const MOST_HEAD = 2 ** 16;

/** Fields whose null is a value; elsewhere it stands for what the class of transformers says. */
const NULLABLE = new Set([
  "num_key_value_heads",
  "sliding_window",
  "attn_logit_softcapping",
  "final_logit_softcapping",
]);

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
  /** Size of one head; even where keys and queries are rotated. */
  readonly head_dim: number;
  /** Added to the variance in every norm. */
  readonly rms_norm_eps: number;
  /** The longest sequence that the model was trained with, in tokens. */
  readonly max_position_embeddings: number;
  /** The longest sequence that the rotary scaling makes of it. */
  readonly context_length: number;
  /** Whether the head's weight is the embedding's; with weights at hand as their files have it. */
  readonly tie_word_embeddings: boolean;
  /** Standard deviation of freshly made weights. */
  readonly initializer_range: number;
  /** Every token id that ends a text; empty where the file names none. */
  readonly eos_token_ids: readonly number[];
  readonly bos_token_id: number | null;
  readonly plan: DecoderPlan;
  /** What of the files is not heeded, a sentence each. */
  readonly warnings: readonly string[];
}

/**
 * Reads `config.json` of a model folder, and what its weights have otherwise, where they are there.
 *
 * @param dir Folder of the model's files
 * @throws InputError as parseModelConfig() and heedWeights(), and where the file is missing or no JSON
 *
 * @example The demo's model
 * ```ts
 * import assert from "node:assert/strict";
 * import { fileURLToPath } from "node:url";
 * import { readModelConfig } from "./config.ts";
 * const config = await readModelConfig(fileURLToPath(import.meta.resolve("../../examples/tiny-llama")));
 * assert.deepEqual([config.model_type, config.warnings], ["llama", []]);
 * ```
 */
export async function readModelConfig(dir: string): Promise<ModelConfig> {
  const json = await readJsonObject(join(dir, "config.json"));
  const config = parseModelConfig(json);
  if (!await holdsWeights(dir)) {
    const quantization = quantizationIn(json);
    if (quantization === null) return config;
    return { ...config, warnings: [...config.warnings, `${quantization}: quantised weights are refused.`] };
  }
  using weightFiles = await WeightFiles.open(dir);
  return await heedWeights(config, json, weightFiles);
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
 * import assert from "node:assert/strict";
 * import { parseModelConfig } from "./config.ts";
 * const config = parseModelConfig({
 *   model_type: "llama", vocab_size: 512, hidden_size: 64, intermediate_size: 160,
 *   num_hidden_layers: 2, num_attention_heads: 4,
 * });
 * assert.equal(config.head_dim, 16);
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
  const { model_type } = json;
  const family = FAMILIES.find((family) => family.model_type === model_type);
  if (!family) {
    refuse("model_type", model_type, FAMILIES.map(({ model_type }) => `"${model_type}"`).join(", "));
  }
  checkArchitecture(json, family);
  return "text" in family ? parseWrapped(json, family) : parseFlat(json, family);
}

function parseFlat(json: Fields, family: Family): ModelConfig {
  const { fields, unread } = recorded(withDefaults(json, family.defaults));
  const config = parseFamily(fields, family);
  return { ...config, warnings: checkUnread(unread(), family.model_type) };
}

/** The text model of a {@link Wrapper}, under the wrapper's names. */
function parseWrapped(json: Fields, { text: family, ...wrapper }: Wrapper): ModelConfig {
  const { text_config } = json;
  if (!isObject(text_config)) refuse("text_config", text_config, "an object");
  // transformers' wrappers tie unless they are told otherwise
  const tied = text_config.tie_word_embeddings ?? json.tie_word_embeddings ?? true;
  const outer = recorded({ ...json, text_config: null });
  const text = recorded(
    withDefaults({ ...text_config, tie_word_embeddings: tied }, {
      ...family.nested_defaults,
      ...family.defaults,
    }),
  );
  const config = inTextConfig(() => {
    const { model_type } = text.fields;
    if (!isAbsent(model_type) && model_type !== family.model_type) {
      refuse("model_type", model_type, `"${family.model_type}"`);
    }
    const config = parseFamily(text.fields, family);
    const { final_logit_softcapping: cap } = text.fields;
    if (config.plan.logit_softcap === null) return config;
    refuse(
      "final_logit_softcapping",
      cap,
      `absent or null, as the class of ${wrapper.model_type} does not cap logits`,
    );
  });
  const ids = (name: string, own: readonly number[]) =>
    own.length > 0 ? own : readTokenIds(outer.fields, name);
  const unread = [
    ...outer.unread(),
    ...text.unread().map(([name, value]) => [`text_config.${name}`, value] as const),
  ];
  return {
    ...config,
    model_type: wrapper.model_type,
    eos_token_ids: ids("eos_token_id", config.eos_token_ids),
    plan: { ...config.plan, names: wrappedNames(config.plan.names) },
    warnings: checkUnread(unread, wrapper.model_type),
  };
}

/** Names of the text model's weights inside a wrapper, as transformers 5 has them. */
function wrappedNames(names: DecoderPlan["names"]): DecoderPlan["names"] {
  const inside = (name: string) => name.replace(/^model\./, "model.language_model.");
  return {
    ...names,
    embedding: inside(names.embedding),
    blocks: inside(names.blocks),
    norm: inside(names.norm),
  };
}

/** Fields with the class's own values for what the file leaves out. */
function withDefaults(json: Fields, defaults: Fields): Fields {
  const said = Object.entries(json).filter(([name, value]) =>
    value !== undefined && (value !== null || NULLABLE.has(name))
  );
  return { ...defaults, ...Object.fromEntries(said) };
}

/** Errors of fields inside `text_config`. */
function inTextConfig<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    const { problem: { path: [file, ...path], ...problem }, sentence, context } = error;
    throw new InputError(sentence, { ...problem, path: [file!, "text_config", ...path] }, context);
  }
}

/** Reads what all families share, then what is the family's own. */
function parseFamily(json: Fields, family: Family): Omit<ModelConfig, "warnings"> {
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
  if (isAbsent(json.head_dim) && hidden_size % num_attention_heads !== 0) {
    refuse(
      fieldOf("hidden_size"),
      hidden_size,
      `a multiple of ${fieldOf("num_attention_heads")} (${num_attention_heads}), or a head_dim`,
    );
  }
  const head_dim = readCount(json, "head_dim", hidden_size / num_attention_heads, MOST_HEAD);
  const max_position_embeddings = readCount(json, fieldOf("max_position_embeddings"), 2048, MOST_POSITIONS);
  const eps = fieldOf("rms_norm_eps");
  const rms_norm_eps = readNumber(json, eps, eps, 1e-6);
  if (rms_norm_eps < 0) refuse(eps, rms_norm_eps, "a number >= 0");
  const initializer_range = readNumber(json, "initializer_range", "initializer_range", 0.02);
  if (initializer_range < 0) refuse("initializer_range", initializer_range, "a number >= 0");
  const num_hidden_layers = readCount(json, fieldOf("num_hidden_layers"), undefined, MOST_LAYERS);
  const sizes = { hidden_size, head_dim, num_hidden_layers, max_position_embeddings };
  const plan = family.plan(json, sizes);
  const stretches = plan.ropes.map(({ rope_scaling }) =>
    rope_scaling.type === "dynamic" ? rope_scaling.factor : 1
  );
  const stretch = stretches.length > 0 ? Math.max(1, Math.min(...stretches)) : 1;
  const per_hidden = family.intermediate_per_hidden;
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
    tie_word_embeddings: readFlag(json, "tie_word_embeddings"),
    initializer_range,
    eos_token_ids: readTokenIds(json, "eos_token_id"),
    bos_token_id: readTokenIds(json, "bos_token_id")[0] ?? null,
    plan,
  };
}

/** @throws InputError where weight files names another class */
function checkArchitecture({ architectures }: Fields, { architecture }: Pick<Family, "architecture">): void {
  if (isAbsent(architectures) || (Array.isArray(architectures) && architectures.includes(architecture))) {
    return;
  }
  refuse("architectures", architectures, `["${architecture}"]`);
}
