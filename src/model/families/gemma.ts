import { type Fields, isAbsent, only, readCount, readNumber, refuse } from "../_fields.ts";
import { isObject } from "../../json.ts";
import type { Family, Sizes, Traits } from "./family.ts";
import { readRope } from "../rope_config.ts";
import { llamaTraits, readWindow, slidingLayers } from "./_common.ts";

const DEFAULTS = { head_dim: 256, tie_word_embeddings: true };

/** Gemma 2: soft-caps, norms on both sides of each branch, a window in every other block. */
export const gemma2: Family = {
  model_type: "gemma2",
  architecture: "Gemma2ForCausalLM",
  defaults: DEFAULTS,
  traits: (json, sizes) => {
    const window = isAbsent(json.sliding_window) ? 4096 : readWindow(json);
    return {
      ...gemmaTraits(json, sizes),
      attention_softcap: softcap(json, "attn_logit_softcapping", 50),
      logit_softcap: softcap(json, "final_logit_softcapping", 30),
      layers: slidingLayers(json, sizes, (layer) => layer % 2 === 0)
        .map((sliding) => ({ window: sliding ? window : null, rope: 0 })),
    };
  },
};

/** Gemma 3, text: a norm over each head's queries and keys, a rotary base of its own for blocks with a window. */
export const gemma3: Family = {
  model_type: "gemma3_text",
  architecture: "Gemma3ForCausalLM",
  defaults: DEFAULTS,
  traits: (json, sizes) => {
    const window = isAbsent(json.sliding_window) ? 4096 : readWindow(json);
    const pattern = isAbsent(json.sliding_window_pattern) ? 6 : readCount(json, "sliding_window_pattern");
    const { max_position_embeddings: context, head_dim } = sizes;
    const full = readRope({ rope_theta: 1_000_000, ...json }, context, head_dim, "full_attention");
    // transformers 4 names the other base apart, and stretches only the blocks without a window
    const local = isObject(json.rope_parameters)
      ? readRope(json, context, head_dim, "sliding_attention")
      : readRope({ rope_theta: json.rope_local_base_freq ?? 10_000 }, context, head_dim);
    return {
      ...gemmaTraits(json, sizes),
      logit_softcap: softcap(json, "final_logit_softcapping", null),
      qk_norm: true,
      ropes: [full, local],
      layers: slidingLayers(json, sizes, (layer) => (layer + 1) % pattern !== 0)
        .map((sliding) => ({ window: sliding ? window : null, rope: sliding ? 1 : 0 })),
    };
  },
};

/** What Gemma 2 and 3 share. */
function gemmaTraits(json: Fields, sizes: Sizes): Traits {
  for (const name of ["hidden_activation", "hidden_act"]) {
    only(json, name, "gelu_pytorch_tanh", `"gelu_pytorch_tanh"`);
  }
  only(json, "attention_bias", false, "false: projections have no bias here");
  only(json, "use_bidirectional_attention", false, "false: attention is causal");
  const scalar = readNumber(json, "query_pre_attn_scalar", "query_pre_attn_scalar", 256);
  if (scalar <= 0) refuse("query_pre_attn_scalar", scalar, "a number > 0");
  return {
    // Gemma 3 reads its rotary settings by kind of layer
    ...llamaTraits(json.model_type === "gemma2" ? json : {}, sizes),
    activation: "gelu_tanh",
    norm_offset: 1,
    embedding_scale: Math.fround(Math.sqrt(sizes.hidden_size)),
    query_scale: scalar ** -0.5,
    sandwich_norms: true,
  };
}

function softcap(json: Fields, name: string, fallback: number | null): number | null {
  if (json[name] === null) return null;
  if (json[name] === undefined) return fallback;
  const cap = readNumber(json, name, name);
  if (cap <= 0) refuse(name, cap, "a number > 0, or null");
  return cap;
}
