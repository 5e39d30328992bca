import { type Fields, only, onlyActivation, readFlag, readNumber } from "../_fields.ts";
import type { Family, LayerTraits, Sizes } from "./family.ts";
import { llamaTraits, readWholeRope, readWindow, slidingLayers } from "./_common.ts";

const DEFAULTS = {
  num_key_value_heads: 32,
  max_position_embeddings: 32_768,
  sliding_window: 4096,
  max_window_layers: 28,
};

/** Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values. */
export const qwen2: Family = {
  model_type: "qwen2",
  architecture: "Qwen2ForCausalLM",
  defaults: DEFAULTS,
  traits: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    void [json.attention_bias, json.qkv_bias]; // whatever they say: the class always has the three biases
    return { ...llamaTraits(sizes, readWholeRope(json, sizes)), biases: "qkv", layers: layers(json, sizes) };
  },
};

/** Qwen3 (dense): no biases, but a norm over each head's queries and keys. */
export const qwen3: Family = {
  model_type: "qwen3",
  architecture: "Qwen3ForCausalLM",
  defaults: { ...DEFAULTS, head_dim: 128 },
  traits: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    only(json, "attention_bias", false, "false: projections have no bias here");
    return { ...llamaTraits(sizes, readWholeRope(json, sizes)), qk_norm: true, layers: layers(json, sizes) };
  },
};

/** A window only where the file switches it on, and then from block max_window_layers on. */
function layers(json: Fields, sizes: Sizes): LayerTraits[] {
  const width = readWindow(json); // read where it is off too: it means nothing then
  const window = readFlag(json, "use_sliding_window") ? width : null;
  const first = readNumber(json, "max_window_layers", "max_window_layers");
  return slidingLayers(json, sizes, (layer) => layer >= first)
    .map((sliding) => ({ window: sliding ? window : null, rope: 0 }));
}
