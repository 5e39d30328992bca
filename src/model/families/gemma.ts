import { type Fields, isAbsent, only, onlyActivation, readCount, readPositive } from "../_fields.ts";
import type { RopeSettings } from "../rope.ts";
import type { BlockPlan, DecoderPlan } from "../plan.ts";
import { HEAD_NORMS, llamaPlan, readWholeRope, readWindow, slidingLayers } from "./_common.ts";
import type { Family, Sizes, Wrapper } from "./family.ts";

const DEFAULTS = {
  num_key_value_heads: 4,
  head_dim: 256,
  tie_word_embeddings: true,
  query_pre_attn_scalar: 256,
  sliding_window: 4096,
};

/** Those after the mlp's own are named otherwise than Llama's. */
const NORMS = {
  input_norm: "input_layernorm",
  mlp_norm: "pre_feedforward_layernorm",
  attention_output_norm: "post_attention_layernorm",
  mlp_output_norm: "post_feedforward_layernorm",
};

/** Gemma: a Llama whose norms count from 1, with a gated gelu and embeddings scaled up. */
export const gemma: Family = {
  model_type: "gemma",
  architecture: "GemmaForCausalLM",
  defaults: {
    num_key_value_heads: 16,
    head_dim: 256,
    tie_word_embeddings: true,
    max_position_embeddings: 8192,
  },
  plan: (json, sizes) => {
    // the class takes "gelu" for the approximation that was meant
    if (json.hidden_act !== "gelu") onlyActivation(json, "hidden_act", "gelu_tanh");
    onlyActivation(json, "hidden_activation", "gelu_tanh");
    return gemmaPlan(json, sizes, readWholeRope(json, sizes), {});
  },
};

/** Gemma 2: soft-caps, norms on both sides of each branch, a window in every other block. */
export const gemma2: Family = {
  model_type: "gemma2",
  architecture: "Gemma2ForCausalLM",
  defaults: {
    ...DEFAULTS,
    max_position_embeddings: 8192,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  },
  plan: (json, sizes) => ({
    ...gemmaPlan(json, sizes, readWholeRope(json, sizes), {
      ...sandwichBlock(json),
      attention_softcap: softcap(json, "attn_logit_softcapping"),
    }),
    logit_softcap: softcap(json, "final_logit_softcapping"),
    layers: slidingLayers(json, sizes, readWindow(json), (layer) => layer % 2 === 0),
  }),
};

/** Gemma 3, text: a norm over each head's queries and keys, a rotary base of its own for blocks with a window. */
export const gemma3: Family = {
  model_type: "gemma3_text",
  architecture: "Gemma3ForCausalLM",
  defaults: {
    ...DEFAULTS,
    max_position_embeddings: 131_072,
    sliding_window_pattern: 6,
    rope_theta: 1_000_000,
    rope_local_base_freq: 10_000,
  },
  nested_defaults: {
    vocab_size: 262_208,
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
  },
  plan: (json, sizes) => {
    const pattern = readCount(json, "sliding_window_pattern");
    const full = readWholeRope(json, sizes, "full_attention");
    // transformers 4 names the other base apart, and its rope_scaling stretches only the blocks without a window
    const { rope_parameters, rope_local_base_freq: rope_theta } = json;
    const local = readWholeRope({ rope_theta, rope_parameters }, sizes, "sliding_attention");
    return {
      ...gemmaPlan(json, sizes, full, { ...sandwichBlock(json), norms: { ...NORMS, ...HEAD_NORMS } }),
      logit_softcap: softcap(json, "final_logit_softcapping"),
      ropes: [full, local],
      layers: slidingLayers(
        json,
        sizes,
        readWindow(json),
        (layer) => (layer + 1) % pattern !== 0,
        (_, sliding) => sliding ? 1 : 0,
      ),
    };
  },
};

/** Gemma 3 as published, from 4 B parameters on: the text model beside a vision tower. */
export const gemma3Conditional: Wrapper = {
  model_type: "gemma3",
  architecture: "Gemma3ForConditionalGeneration",
  text: gemma3,
};

/** What all of them share. */
function gemmaPlan(json: Fields, sizes: Sizes, rope: RopeSettings, block: Partial<BlockPlan>): DecoderPlan {
  only(json, "attention_bias", false, "false: projections have no bias here");
  only(json, "use_bidirectional_attention", false, "false: attention is causal");
  return {
    ...llamaPlan(sizes, rope, { activation: "gelu_tanh", ...block }),
    norm: { kind: "rms", offset: 1 },
    embedding_scale: Math.fround(Math.sqrt(sizes.hidden_size)),
  };
}

/** What the blocks of Gemma 2 and 3 share. */
function sandwichBlock(json: Fields): Pick<BlockPlan, "norms" | "query_scale"> {
  for (const name of ["hidden_activation", "hidden_act"]) onlyActivation(json, name, "gelu_tanh");
  const scalar = readPositive(json, "query_pre_attn_scalar", "query_pre_attn_scalar");
  return { norms: NORMS, query_scale: scalar ** -0.5 };
}

function softcap(json: Fields, name: string): number | null {
  if (isAbsent(json[name])) return null;
  return readPositive(json, name, name);
}
