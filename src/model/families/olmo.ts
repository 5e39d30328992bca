import { onlyActivation } from "../_fields.ts";
import { flaggedBiases, HEAD_NORMS, llamaLinears, llamaPlan, readWholeRope } from "./_common.ts";
import type { Family } from "./family.ts";

/** OLMo 2: norms of what attention and the mlp give, none of what they take, and one over all queries, or all keys. */
export const olmo2: Family = {
  model_type: "olmo2",
  architecture: "Olmo2ForCausalLM",
  defaults: { rms_norm_eps: 1e-5 },
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    return llamaPlan(sizes, readWholeRope(json, sizes), {
      norms: {
        attention_output_norm: "post_attention_layernorm",
        mlp_output_norm: "post_feedforward_layernorm",
        ...HEAD_NORMS,
      },
      linears: llamaLinears(flaggedBiases(json)),
      head_norms: "projection",
    });
  },
};
