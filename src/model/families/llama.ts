import type { Family } from "./family.ts";
import { llamaPlan, readWholeRope, requireSiluWithoutBias } from "./_common.ts";

/** Llama 2, 3, 3.1, 3.2, SmolLM2, TinyLlama. */
export const llama: Family = {
  model_type: "llama",
  architecture: "LlamaForCausalLM",
  defaults: {},
  plan: (json, sizes) => {
    requireSiluWithoutBias(json);
    return llamaPlan(sizes, readWholeRope(json, sizes));
  },
};
