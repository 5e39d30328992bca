/** A real model in Hugging Face's files, small enough that a training step takes milliseconds. */
import { join } from "node:path";
import { parseModelConfig } from "../../src/model/config.ts";
import { weightSpecs } from "../../src/model/modules.ts";
import { type FloatDtype, fromF32 } from "../../src/model/dtype.ts";
import { type TensorSource, writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { byteLevel } from "../preference/_tokenizers.ts";
import { random } from "./random.ts";

/** How one tiny model differs from another. */
export interface TinyModelOptions {
  readonly seed?: number;
  readonly dtype?: FloatDtype;
  /** In two files under an index. */
  readonly sharded?: boolean;
  readonly tied?: boolean;
  /** Rows of the embedding; the tokenizer's own number unless given. */
  readonly vocabulary?: number;
  /** Context in tokens. */
  readonly context?: number;
  /** Fields of config.json beside or instead of the tiny Llama's, for another family. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Replaces a weight after it was drawn. */
  readonly change?: (name: string, values: Float32Array) => void;
}

const SPECIALS = ["<|begin|>", "<|end|>", "<|user|>", "<|assistant|>"];
const MERGES = ["t h", "th e", "i n", "a n", "o u", "Ġ the", "Ġ a"];
const VOCABULARY = 256 + MERGES.length + SPECIALS.length;
const idOf = (special: string) => 256 + MERGES.length + SPECIALS.indexOf(special);

const CHAT_TEMPLATE = "{{ bos_token }}{% for message in messages %}" +
  "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>{% endif %}";

const GEMMA = { hidden_act: undefined, hidden_activation: "gelu_pytorch_tanh", sliding_window: 7 };

/** What a tiny model of each family says beside its sizes. */
export const TINY_FAMILIES = {
  mistral: { model_type: "mistral", architectures: ["MistralForCausalLM"], sliding_window: 6 },
  qwen2: { model_type: "qwen2", architectures: ["Qwen2ForCausalLM"] },
  qwen3: { model_type: "qwen3", architectures: ["Qwen3ForCausalLM"] },
  gemma2: { model_type: "gemma2", architectures: ["Gemma2ForCausalLM"], ...GEMMA },
  gemma3: {
    model_type: "gemma3_text",
    architectures: ["Gemma3ForCausalLM"],
    sliding_window_pattern: 2,
    ...GEMMA,
  },
  gpt2: {
    model_type: "gpt2",
    architectures: ["GPT2LMHeadModel"],
    n_embd: 32,
    n_inner: null,
    n_layer: 2,
    n_head: 4,
    n_positions: 128,
  },
  phi3: { model_type: "phi3", architectures: ["Phi3ForCausalLM"] },
  "phi3 of long and short sequences": {
    model_type: "phi3",
    architectures: ["Phi3ForCausalLM"],
    original_max_position_embeddings: 12,
    rope_scaling: { type: "longrope", short_factor: [1, 1.1, 1.3, 1.5], long_factor: [1.2, 1.5, 2, 4] },
  },
  olmo2: { model_type: "olmo2", architectures: ["Olmo2ForCausalLM"] },
  smollm3: { model_type: "smollm3", architectures: ["SmolLM3ForCausalLM"], no_rope_layers: [1, 0] },
  granite: {
    model_type: "granite",
    architectures: ["GraniteForCausalLM"],
    embedding_multiplier: 3,
    attention_multiplier: 0.25,
    residual_multiplier: 0.5,
    logits_scaling: 2,
  },
  gemma: { model_type: "gemma", architectures: ["GemmaForCausalLM"], hidden_act: "gelu_pytorch_tanh" },
};

/** Large enough that every weight shows in the scores. */
const DEVIATION = 0.15;

/**
 * Writes a model of two blocks (width 32, 4 heads, 2 key/value heads) with random weights and a byte-level tokenizer
 * whose BOS is added.
 *
 * @returns `dir`
 */
export async function writeTinyModel(dir: string, options: TinyModelOptions = {}): Promise<string> {
  const { seed = 1, dtype = "F32", tied = true, vocabulary = VOCABULARY, context = 128 } = options;
  const config = {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: vocabulary,
    hidden_size: 32,
    intermediate_size: 48,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 8,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    max_position_embeddings: context,
    tie_word_embeddings: tied,
    initializer_range: 0.02,
    bos_token_id: idOf("<|begin|>"),
    eos_token_id: idOf("<|end|>"),
    dtype: { F32: "float32", F16: "float16", BF16: "bfloat16" }[dtype],
    ...options.config,
  };
  const files = {
    "config.json": config,
    "generation_config.json": { eos_token_id: idOf("<|end|>") },
    "tokenizer.json": byteLevel(MERGES, SPECIALS, "<|begin|>"),
    "tokenizer_config.json": {
      tokenizer_class: "PreTrainedTokenizerFast",
      bos_token: "<|begin|>",
      eos_token: "<|end|>",
      chat_template: CHAT_TEMPLATE,
    },
  };
  await Deno.mkdir(dir, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeTextFile(join(dir, name), JSON.stringify(content));
  }
  const source = random(seed);
  const tensors = weightSpecs(parseModelConfig(config)).map(({ name, shape }): TensorSource => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = shape.length === 1
      ? Float32Array.from({ length: count }, () => 1 + 0.1 * source.normal())
      : source.normals(count, DEVIATION);
    options.change?.(name, values);
    return { name, dtype, shape, data: fromF32(values, dtype) };
  });
  if (options.sharded) await writeShards(dir, tensors);
  else await writeSafetensors(join(dir, "model.safetensors"), tensors);
  return dir;
}

async function writeShards(dir: string, tensors: readonly TensorSource[]): Promise<void> {
  const half = Math.floor(tensors.length / 2);
  const weight_map: Record<string, string> = {};
  for (const [i, part] of [tensors.slice(0, half), tensors.slice(half)].entries()) {
    const file = `model-0000${i + 1}-of-00002.safetensors`;
    await writeSafetensors(join(dir, file), part);
    for (const { name } of part) weight_map[name] = file;
  }
  await Deno.writeTextFile(
    join(dir, "model.safetensors.index.json"),
    JSON.stringify({ metadata: {}, weight_map }),
  );
}

const WORDS = ["the", "a", "thin", "hand", "out", "in", "an", "other", "sand", "win", "ten", "bath", "tin"];

/** Seeded rows of {prompt, chosen, rejected}, plain strings of uneven lengths. */
export function plainRows(count: number, seed = 7): { prompt: string; chosen: string; rejected: string }[] {
  const source = random(seed);
  const words = (most: number) =>
    Array.from({ length: 1 + source.integer(most) }, () => WORDS[source.integer(WORDS.length)]).join(" ");
  return Array.from({ length: count }, () => ({
    prompt: words(6),
    chosen: ` ${words(5)}`,
    rejected: ` ${words(5)}.`,
  }));
}

/** The same rows as conversations. */
export function chatRows(count: number, seed = 7): Record<"prompt" | "chosen" | "rejected", unknown>[] {
  return plainRows(count, seed).map(({ prompt, chosen, rejected }) => ({
    prompt: [{ role: "user", content: prompt }],
    chosen: [{ role: "assistant", content: chosen.trim() }],
    rejected: [{ role: "assistant", content: rejected.trim() }],
  }));
}
