import type { Family, Wrapper } from "./family.ts";
import { llamaPlan, readWholeRope, readWindow, requireSiluWithoutBias } from "./_common.ts";

/** Mistral: a Llama whose every block may have a sliding window. */
export const mistral: Family = {
  model_type: "mistral",
  architecture: "MistralForCausalLM",
  defaults: { num_key_value_heads: 8, max_position_embeddings: 131_072, sliding_window: 4096 },
  nested_defaults: {
    vocab_size: 32_000,
    hidden_size: 4096,
    intermediate_size: 14_336,
    num_hidden_layers: 32,
    num_attention_heads: 32,
  },
  plan: (json, sizes) => {
    requireSiluWithoutBias(json);
    return llamaPlan(sizes, readWholeRope(json, sizes), {}, readWindow(json));
  },
};

/** Mistral Small 3.1 and 3.2: a Mistral beside a vision tower. */
export const mistral3: Wrapper = {
  model_type: "mistral3",
  architecture: "Mistral3ForConditionalGeneration",
  text: mistral,
};
