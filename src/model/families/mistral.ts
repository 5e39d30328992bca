import type { Family } from "./family.ts";
import { everyLayer, llamaTraits, readWindow, requireSiluWithoutBias } from "./_common.ts";

/** Mistral: a Llama whose every block may have a sliding window. */
export const mistral: Family = {
  model_type: "mistral",
  architecture: "MistralForCausalLM",
  defaults: {},
  traits: (json, sizes) => {
    requireSiluWithoutBias(json);
    return { ...llamaTraits(json, sizes), layers: everyLayer(sizes, { window: readWindow(json), rope: 0 }) };
  },
};
