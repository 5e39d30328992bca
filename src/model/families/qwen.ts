import { type Fields, isAbsent, only, readFlag, readNumber } from "../_fields.ts";
import type { Family, LayerTraits, Sizes } from "./family.ts";
import { llamaTraits, readWindow, slidingLayers } from "./_common.ts";

/** Qwen2 and Qwen2.5: a Llama with biases on queries, keys and values. */
export const qwen2: Family = {
  model_type: "qwen2",
  architecture: "Qwen2ForCausalLM",
  defaults: {},
  traits: (json, sizes) => {
    only(json, "hidden_act", "silu", `"silu"`);
    return { ...llamaTraits(json, sizes), biases: "qkv", layers: layers(json, sizes) };
  },
};

/** Qwen3 (dense): no biases, but a norm over each head's queries and keys. */
export const qwen3: Family = {
  model_type: "qwen3",
  architecture: "Qwen3ForCausalLM",
  defaults: { head_dim: 128 },
  traits: (json, sizes) => {
    only(json, "hidden_act", "silu", `"silu"`);
    only(json, "attention_bias", false, "false: projections have no bias here");
    return { ...llamaTraits(json, sizes), qk_norm: true, layers: layers(json, sizes) };
  },
};

/** A window only where the file switches it on, and then from block max_window_layers on. */
function layers(json: Fields, sizes: Sizes): LayerTraits[] {
  const window = readFlag(json, "use_sliding_window") ? readWindow(json) : null;
  const first = isAbsent(json.max_window_layers)
    ? 28
    : readNumber(json, "max_window_layers", "max_window_layers");
  return slidingLayers(json, sizes, (layer) => layer >= first)
    .map((sliding) => ({ window: sliding ? window : null, rope: 0 }));
}
