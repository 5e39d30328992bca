import type { Family } from "./family.ts";
import { llamaTraits, readWholeRope, requireSiluWithoutBias } from "./_common.ts";

/** Llama 2, 3, 3.1, 3.2, SmolLM2, TinyLlama. */
export const llama: Family = {
  model_type: "llama",
  architecture: "LlamaForCausalLM",
  defaults: {},
  traits: (json, sizes) => {
    requireSiluWithoutBias(json);
    return llamaTraits(sizes, readWholeRope(json, sizes));
  },
};
