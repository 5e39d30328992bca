/** The tiny model's configuration and its weights before training. */
import { parseModelConfig } from "../../src/model/config.ts";
import type { ModelConfig } from "../../src/model/config.ts";
import type { TensorSource } from "../../src/model/safetensors_writer.ts";
import { SPECIAL_TOKENS, VOCABULARY_SIZE } from "./generate.ts";
import { Random } from "./random.ts";

const tokenId = (token: typeof SPECIAL_TOKENS[number]) => SPECIAL_TOKENS.indexOf(token);

const CHAT_TEMPLATE = "{{ bos_token }}" +
  "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}" +
  "{% if add_generation_prompt %}<|assistant|>{% endif %}";

/** The model folder's JSON files beside tokenizer.json, by name. */
export const MODEL_FILES = {
  "config.json": {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: VOCABULARY_SIZE,
    hidden_size: 192,
    intermediate_size: 512,
    num_hidden_layers: 3,
    num_attention_heads: 6,
    num_key_value_heads: 2,
    head_dim: 32,
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    max_position_embeddings: 512,
    tie_word_embeddings: true,
    attention_bias: false,
    mlp_bias: false,
    // 1 / sqrt(192) is 0.07: with the usual 0.02 so narrow a model idles through its first thousand steps.
    initializer_range: 0.06,
    bos_token_id: tokenId("<|begin|>"),
    eos_token_id: tokenId("<|end|>"),
    pad_token_id: tokenId("<|pad|>"),
    torch_dtype: "bfloat16",
  },
  "generation_config.json": {
    bos_token_id: tokenId("<|begin|>"),
    eos_token_id: tokenId("<|end|>"),
    pad_token_id: tokenId("<|pad|>"),
  },
  "tokenizer_config.json": {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: "<|begin|>",
    eos_token: "<|end|>",
    pad_token: "<|pad|>",
    add_bos_token: true,
    clean_up_tokenization_spaces: false,
    model_max_length: 512,
    chat_template: CHAT_TEMPLATE,
  },
} as const;

const EMBEDDING_DEVIATION = 0.02;

export const MODEL_CONFIG: ModelConfig = parseModelConfig(MODEL_FILES["config.json"]);

/**
 * Random weights: linear layers normal with `initializer_range`, the embedding with a smaller deviation, norms one.
 *
 * @returns tensors of a tied model by their names in Hugging Face files, F32
 */
export function* initialTensors(config: ModelConfig, seed: number): Generator<TensorSource> {
  const { hidden_size: hidden, head_dim, intermediate_size: inner } = config;
  const queries = config.num_attention_heads * head_dim;
  const keys = config.num_key_value_heads * head_dim;
  const random = new Random(`weights ${seed}`);
  const tensor = (name: string, shape: number[], value: () => number): TensorSource => {
    const values = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, value);
    return { name: `model.${name}.weight`, dtype: "F32", shape, data: new Uint8Array(values.buffer) };
  };
  const matrix = (name: string, rows: number, columns: number) =>
    tensor(name, [rows, columns], () => random.normal() * config.initializer_range);
  const norm = (name: string) => tensor(name, [hidden], () => 1);

  // The tied head multiplies by the embedding: small at first, so that every token starts about equally likely.
  yield tensor("embed_tokens", [config.vocab_size, hidden], () => random.normal() * EMBEDDING_DEVIATION);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const block = `layers.${layer}`;
    yield norm(`${block}.input_layernorm`);
    yield matrix(`${block}.self_attn.q_proj`, queries, hidden);
    yield matrix(`${block}.self_attn.k_proj`, keys, hidden);
    yield matrix(`${block}.self_attn.v_proj`, keys, hidden);
    yield matrix(`${block}.self_attn.o_proj`, hidden, queries);
    yield norm(`${block}.post_attention_layernorm`);
    yield matrix(`${block}.mlp.gate_proj`, inner, hidden);
    yield matrix(`${block}.mlp.up_proj`, inner, hidden);
    yield matrix(`${block}.mlp.down_proj`, hidden, inner);
  }
  yield norm("norm");
}
