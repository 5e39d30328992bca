import {
  type Fields,
  isAbsent,
  MOST_POSITIONS,
  only,
  onlyActivation,
  readCount,
  refuse,
} from "../_fields.ts";
import type { LayerTraits, Names, Sizes, Traits } from "./family.ts";
import type { RopeSettings } from "../rope.ts";
import { readRope } from "../rope_config.ts";

const NAMES: Names = {
  embedding: "model.embed_tokens",
  positions: null,
  blocks: "model.layers",
  norm: "model.norm",
  input_norm: "input_layernorm",
  mlp_norm: "post_attention_layernorm",
  linears: {
    qkv_proj: "self_attn.qkv_proj",
    q_proj: "self_attn.q_proj",
    k_proj: "self_attn.k_proj",
    v_proj: "self_attn.v_proj",
    o_proj: "self_attn.o_proj",
    gate_up_proj: "mlp.gate_up_proj",
    gate_proj: "mlp.gate_proj",
    up_proj: "mlp.up_proj",
    down_proj: "mlp.down_proj",
  },
};

/** Traits that take no number from the file, as a plain Llama has them. */
export const PLAIN: Omit<Traits, "query_scale" | "ropes" | "layers"> = {
  names: NAMES,
  activation: "silu",
  gated_mlp: true,
  layer_norm: false,
  norm_offset: 0,
  embedding_scale: 1,
  attention_softcap: null,
  logit_softcap: null,
  biases: "none",
  qk_norm: false,
  sandwich_norms: false,
  fused_projections: false,
  transposed_files: false,
};

/** Traits of a plain Llama, which the other families change. */
export function llamaTraits(sizes: Sizes, rope: RopeSettings): Traits {
  return {
    ...PLAIN,
    query_scale: 1 / Math.sqrt(sizes.head_dim),
    ropes: [rope],
    layers: everyLayer(sizes, { window: null, rope: 0 }),
  };
}

/** Rotary settings that turn the whole head. @param layers as {@link readRope} has it */
export function readWholeRope(
  json: Fields,
  { max_position_embeddings, head_dim }: Sizes,
  layers?: string,
): RopeSettings {
  const rope = readRope(json, max_position_embeddings, head_dim, layers);
  if (rope.rotary_dim === head_dim) return rope;
  refuse("partial_rotary_factor", rope.rotary_dim / head_dim, "1: the whole head is rotated");
}

/** The same for all blocks. */
export function everyLayer({ num_hidden_layers }: Sizes, layer: LayerTraits): LayerTraits[] {
  return Array.from({ length: num_hidden_layers }, () => layer);
}

/** `sliding_window`; null where the file has none. */
export function readWindow(json: Fields): number | null {
  return isAbsent(json.sliding_window) ? null : readCount(json, "sliding_window", undefined, MOST_POSITIONS);
}

/**
 * Which blocks have a window: `layer_types` (transformers 5), or else the family's own rule.
 *
 * @param rule whether a block has one where the file does not say
 */
export function slidingLayers(
  json: Fields,
  { num_hidden_layers }: Sizes,
  rule: (layer: number) => boolean,
): boolean[] {
  const types = json.layer_types;
  return Array.from({ length: num_hidden_layers }, (_, layer) => {
    if (isAbsent(types)) return rule(layer);
    const type: unknown = Array.isArray(types) ? types[layer] : undefined;
    if (type !== "sliding_attention" && type !== "full_attention") {
      refuse(
        "layer_types",
        types,
        `"sliding_attention" or "full_attention" for each of ${num_hidden_layers} layers`,
      );
    }
    return type === "sliding_attention";
  });
}

/** Refuses projections with a bias, and any activation but SiLU. */
export function requireSiluWithoutBias(json: Fields): void {
  onlyActivation(json, "hidden_act", "silu");
  only(json, "attention_bias", false, "false: projections have no bias here");
  only(json, "mlp_bias", false, "false: projections have no bias here");
}
