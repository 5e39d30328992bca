import { only } from "../_fields.ts";
import type { Family } from "./family.ts";
import { everyLayer, llamaTraits, readWindow } from "./_common.ts";

/** Phi-3 and Phi-4-mini: a Llama with q, k, v in one matrix and gate and up in another. */
export const phi3: Family = {
  model_type: "phi3",
  architecture: "Phi3ForCausalLM",
  defaults: { rms_norm_eps: 1e-5 },
  traits: (json, sizes) => {
    only(json, "hidden_act", "silu", `"silu"`);
    return {
      ...llamaTraits(json, sizes, true),
      fused_projections: true,
      layers: everyLayer(sizes, { window: readWindow(json), rope: 0 }),
    };
  },
};
