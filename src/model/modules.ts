/** What a decoder's modules and weights are called in Hugging Face's files, and their shapes. */
import type { ModelConfig } from "./config.ts";
import type { LinearLayer } from "./families/family.ts";
import type { WeightSpec } from "./weights.ts";

/** One linear layer of the decoder: y [tokens, outputs] = x [tokens, inputs] W^T. */
export interface LinearModule {
  /** `model.layers.0.self_attn.q_proj`: what PEFT matches target_modules against; its weight is this + `.weight`. */
  readonly path: string;
  /** Number of the block. */
  readonly layer: number;
  readonly name: LinearLayer;
  readonly inputs: number;
  readonly outputs: number;
  /** Whether files hold its weight as [inputs, outputs]. */
  readonly transposed: boolean;
}

/**
 * Every linear layer of the decoder's blocks with its shape, block by block.
 *
 * @param model The decoder
 */
export function linearModules(model: ModelConfig): LinearModule[] {
  const { hidden_size: hidden, intermediate_size: wide, head_dim } = model;
  const queries = model.num_attention_heads * head_dim;
  const keys = model.num_key_value_heads * head_dim;
  const { names, fused_projections, gated_mlp, transposed_files: transposed } = model.traits;
  const into: readonly [LinearLayer, number, number][] = fused_projections
    ? [["qkv_proj", hidden, queries + 2 * keys]]
    : [["q_proj", hidden, queries], ["k_proj", hidden, keys], ["v_proj", hidden, keys]];
  const up: readonly [LinearLayer, number, number][] = !gated_mlp
    ? [["up_proj", hidden, wide]]
    : fused_projections
    ? [["gate_up_proj", hidden, 2 * wide]]
    : [["gate_proj", hidden, wide], ["up_proj", hidden, wide]];
  const layers: readonly [LinearLayer, inputs: number, outputs: number][] = [
    ...into,
    ["o_proj", queries, hidden],
    ...up,
    ["down_proj", wide, hidden],
  ];
  const modules: LinearModule[] = [];
  for (let layer = 0; layer < model.num_hidden_layers; layer++) {
    for (const [name, inputs, outputs] of layers) {
      const path = `${names.blocks}.${layer}.${names.linears[name]}`;
      modules.push({ path, layer, name, inputs, outputs, transposed });
    }
  }
  return modules;
}

/** Columns of the widest projection that joins several; 0 where there is none. */
export function joinedWidth(config: ModelConfig): number {
  const { num_attention_heads, num_key_value_heads, head_dim, intermediate_size, traits } = config;
  if (!traits.fused_projections) return 0;
  const qkv = (num_attention_heads + 2 * num_key_value_heads) * head_dim;
  return traits.gated_mlp ? Math.max(qkv, 2 * intermediate_size) : qkv;
}

/** What "all-linear" means, as PEFT writes it: the last part of each path, once. */
export function linearNames(model: ModelConfig): string[] {
  return [...new Set(linearModules(model).map(({ path }) => path.slice(path.lastIndexOf(".") + 1)))];
}

/** The norms that a block may have. */
type BlockNorm =
  | "input_norm"
  | "mlp_norm"
  | "attention_output_norm"
  | "mlp_output_norm"
  | "q_norm"
  | "k_norm";

/** A block's norms by their names in the files; Gemma's after the mlp's own are named otherwise than Llama's. */
export function normNames(
  { traits }: ModelConfig,
): Readonly<Record<BlockNorm, string | null>> {
  const { sandwich_norms: sandwich, names } = traits;
  return {
    input_norm: names.input_norm,
    mlp_norm: sandwich ? "pre_feedforward_layernorm" : names.mlp_norm,
    attention_output_norm: sandwich ? "post_attention_layernorm" : null,
    mlp_output_norm: sandwich ? "post_feedforward_layernorm" : null,
    q_norm: traits.qk_norm ? "self_attn.q_norm" : null,
    k_norm: traits.qk_norm ? "self_attn.k_norm" : null,
  };
}

/** Every weight of the decoder by its Hugging Face name, as files hold it. */
export function weightSpecs(config: ModelConfig): WeightSpec[] {
  const { hidden_size: hidden, vocab_size, head_dim, traits } = config;
  const { names } = traits;
  const specs: WeightSpec[] = [];
  const add = (name: string, shape: WeightSpec["shape"]) =>
    specs.push({ name, shape, transposed: false, linear: false });
  const addNorm = (path: string, size: number) => {
    add(`${path}.weight`, [size]);
    if (traits.layer_norm) add(`${path}.bias`, [size]);
  };
  const embedding = { name: `${names.embedding}.weight`, shape: [vocab_size, hidden] as const };
  const tied = config.tie_word_embeddings ? { or: "lm_head.weight" } : {};
  specs.push({ ...embedding, transposed: false, linear: false, ...tied });
  if (names.positions !== null) add(`${names.positions}.weight`, [config.max_position_embeddings, hidden]);
  const modules = linearModules(config);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    for (const [norm, name] of Object.entries(normNames(config))) {
      if (name === null) continue;
      addNorm(`${names.blocks}.${layer}.${name}`, norm === "q_norm" || norm === "k_norm" ? head_dim : hidden);
    }
    const each = modules.length / config.num_hidden_layers;
    for (const module of modules.slice(layer * each, (layer + 1) * each)) {
      const { name, path, outputs, inputs, transposed } = module;
      const shape = transposed ? [inputs, outputs] as const : [outputs, inputs] as const;
      specs.push({ name: `${path}.weight`, shape, transposed, linear: true });
      if (traits.biases === "all" || (traits.biases === "qkv" && QKV.has(name))) {
        add(`${path}.bias`, [outputs]);
      }
    }
  }
  addNorm(names.norm, hidden);
  if (!config.tie_word_embeddings) add("lm_head.weight", [vocab_size, hidden]);
  return specs;
}

const QKV: ReadonlySet<LinearLayer> = new Set(["q_proj", "k_proj", "v_proj"]);
