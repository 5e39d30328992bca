import {
  type Fields,
  isAbsent,
  MOST_POSITIONS,
  only,
  onlyActivation,
  readCount,
  readFlag,
  refuse,
} from "../_fields.ts";
import type { BlockPlan, DecoderPlan, LayerPlan, LinearName } from "../plan.ts";
import type { RopeSettings } from "../rope.ts";
import { readRope } from "../rope_config.ts";
import type { Sizes } from "./family.ts";

/**
 * Linear layers by their names.
 *
 * @param biased whether the one of a name has a bias
 * @param transposed whether files hold their weights as [inputs, outputs]
 */
export function linears(
  names: Readonly<Partial<Record<LinearName, string>>>,
  biased: (name: string) => boolean = () => false,
  transposed = false,
): BlockPlan["linears"] {
  const plans = Object.entries(names).map(([layer, name]) =>
    [layer, { name, bias: biased(name), transposed }] as const
  );
  return Object.fromEntries(plans);
}

/** A Llama's. @param biased as {@link linears} has it */
export function llamaLinears(biased?: (name: string) => boolean): BlockPlan["linears"] {
  return linears({
    q_proj: "self_attn.q_proj",
    k_proj: "self_attn.k_proj",
    v_proj: "self_attn.v_proj",
    o_proj: "self_attn.o_proj",
    gate_proj: "mlp.gate_proj",
    up_proj: "mlp.up_proj",
    down_proj: "mlp.down_proj",
  }, biased);
}

/** Which of a Llama's linear layers have a bias by `attention_bias` and, where the class reads it, `mlp_bias`. */
export function flaggedBiases(json: Fields, mlp = false): (name: string) => boolean {
  const [inAttention, inMlp] = [readFlag(json, "attention_bias"), mlp && readFlag(json, "mlp_bias")];
  return (name) => name.startsWith("mlp.") ? inMlp : inAttention;
}

/** A Llama's. */
export const LLAMA_NORMS = { input_norm: "input_layernorm", mlp_norm: "post_attention_layernorm" };
/** Of each head's queries and keys. */
export const HEAD_NORMS = { q_norm: "self_attn.q_norm", k_norm: "self_attn.k_norm" };

/**
 * The plan of a plain Llama, which the other families change.
 *
 * @param rope null where positions are learned
 * @param block what is otherwise in its blocks
 * @param window of every block
 */
export function llamaPlan(
  sizes: Sizes,
  rope: RopeSettings | null,
  block: Partial<BlockPlan> = {},
  window: number | null = null,
): DecoderPlan {
  return {
    names: { embedding: "model.embed_tokens", positions: null, blocks: "model.layers", norm: "model.norm" },
    norm: { kind: "rms", offset: 0 },
    embedding_scale: 1,
    logit_scale: 1,
    logit_softcap: null,
    block: {
      norms: LLAMA_NORMS,
      linears: llamaLinears(),
      head_norms: "head",
      activation: "silu",
      query_scale: 1 / Math.sqrt(sizes.head_dim),
      attention_softcap: null,
      residual_scale: 1,
      ...block,
    },
    layers: Array.from({ length: sizes.num_hidden_layers }, () => ({ window, rope: rope ? 0 : null })),
    ropes: rope ? [rope] : [],
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

/** `sliding_window`; null where the file has none. */
export function readWindow(json: Fields): number | null {
  return isAbsent(json.sliding_window) ? null : readCount(json, "sliding_window", undefined, MOST_POSITIONS);
}

/** The same where `use_sliding_window` switches it on. */
export function readSwitchedWindow(json: Fields): number | null {
  const width = readWindow(json); // read where it is off too: it means nothing then
  return readFlag(json, "use_sliding_window") ? width : null;
}

/**
 * What each block sees: `layer_types` (transformers 5) says which have the window, or else the family's own rule.
 *
 * @param rule whether a block has one where the file does not say
 * @param rope of a block that has one, or has none
 */
export function slidingLayers(
  json: Fields,
  { num_hidden_layers }: Sizes,
  width: number | null,
  rule: (layer: number) => boolean,
  rope: (layer: number, sliding: boolean) => number | null = () => 0,
): LayerPlan[] {
  const types = json.layer_types;
  return Array.from({ length: num_hidden_layers }, (_, layer) => {
    const type: unknown = Array.isArray(types) ? types[layer] : undefined;
    if (!isAbsent(types) && type !== "sliding_attention" && type !== "full_attention") {
      const accepted = `"sliding_attention" or "full_attention" for each of ${num_hidden_layers} layers`;
      refuse("layer_types", types, accepted);
    }
    const sliding = isAbsent(types) ? rule(layer) : type === "sliding_attention";
    return { window: sliding ? width : null, rope: rope(layer, sliding) };
  });
}

/** Refuses projections with a bias, and any activation but SiLU. */
export function requireSiluWithoutBias(json: Fields): void {
  onlyActivation(json, "hidden_act", "silu");
  only(json, "attention_bias", false, "false: projections have no bias here");
  only(json, "mlp_bias", false, "false: projections have no bias here");
}
