import type { Family } from "./family.ts";
import { onlyActivation } from "../_fields.ts";
import { flaggedBiases, llamaLinears, llamaPlan, readWholeRope } from "./_common.ts";

/** Llama 2, 3, 3.1, 3.2, SmolLM2, TinyLlama. */
export const llama: Family = {
  model_type: "llama",
  architecture: "LlamaForCausalLM",
  defaults: {},
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    return llamaPlan(sizes, readWholeRope(json, sizes), { linears: llamaLinears(flaggedBiases(json, true)) });
  },
};
