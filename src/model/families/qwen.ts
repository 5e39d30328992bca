import { type Fields, onlyActivation, readNumber } from "../_fields.ts";
import type { LayerPlan } from "../plan.ts";
import {
  flaggedBiases,
  HEAD_NORMS,
  LLAMA_NORMS,
  llamaLinears,
  llamaPlan,
  readSwitchedWindow,
  readWholeRope,
  slidingLayers,
} from "./_common.ts";
import type { Family, Sizes } from "./family.ts";

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
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    void [json.attention_bias, json.qkv_bias]; // whatever they say: the class always has the three biases
    const linears = llamaLinears((name) => /[qkv]_proj$/.test(name));
    return { ...llamaPlan(sizes, readWholeRope(json, sizes), { linears }), layers: layers(json, sizes) };
  },
};

/** Qwen3 (dense): biases only where the file asks for them, and a norm over each head's queries and keys. */
export const qwen3: Family = {
  model_type: "qwen3",
  architecture: "Qwen3ForCausalLM",
  defaults: { ...DEFAULTS, head_dim: 128 },
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    const norms = { ...LLAMA_NORMS, ...HEAD_NORMS };
    const linears = llamaLinears(flaggedBiases(json));
    return {
      ...llamaPlan(sizes, readWholeRope(json, sizes), { norms, linears }),
      layers: layers(json, sizes),
    };
  },
};

/** A window from block max_window_layers on. */
function layers(json: Fields, sizes: Sizes): LayerPlan[] {
  const first = readNumber(json, "max_window_layers", "max_window_layers");
  return slidingLayers(json, sizes, readSwitchedWindow(json), (layer) => layer >= first);
}
