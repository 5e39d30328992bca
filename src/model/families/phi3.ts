import { onlyActivation } from "../_fields.ts";
import type { Family } from "./family.ts";
import { readRope } from "../rope_config.ts";
import { everyLayer, llamaTraits, readWindow } from "./_common.ts";

/** Phi-3 and Phi-4-mini: a Llama with q, k, v in one matrix and gate and up in another. */
export const phi3: Family = {
  model_type: "phi3",
  architecture: "Phi3ForCausalLM",
  defaults: { rms_norm_eps: 1e-5, max_position_embeddings: 4096, original_max_position_embeddings: 4096 },
  traits: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    return {
      ...llamaTraits(sizes, readRope(json, sizes.max_position_embeddings, sizes.head_dim)),
      fused_projections: true,
      layers: everyLayer(sizes, { window: readWindow(json), rope: 0 }),
    };
  },
};
