import { readPositive } from "../_fields.ts";
import { llamaPlan, readWholeRope, requireSiluWithoutBias } from "./_common.ts";
import type { Family } from "./family.ts";

/** Granite 3: a Llama with multipliers of embeddings, scores, branches and logits. */
export const granite: Family = {
  model_type: "granite",
  architecture: "GraniteForCausalLM",
  defaults: { embedding_multiplier: 1, attention_multiplier: 1, residual_multiplier: 1, logits_scaling: 1 },
  plan: (json, sizes) => {
    requireSiluWithoutBias(json);
    const read = (name: string) => readPositive(json, name, name);
    const block = { query_scale: read("attention_multiplier"), residual_scale: read("residual_multiplier") };
    return {
      ...llamaPlan(sizes, readWholeRope(json, sizes), block),
      embedding_scale: read("embedding_multiplier"),
      logit_scale: 1 / read("logits_scaling"),
    };
  },
};
