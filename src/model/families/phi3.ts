import { onlyActivation } from "../_fields.ts";
import type { Family } from "./family.ts";
import { readRope } from "../rope_config.ts";
import { linears, llamaPlan, readWindow } from "./_common.ts";

const LINEARS = linears({
  qkv_proj: "self_attn.qkv_proj",
  o_proj: "self_attn.o_proj",
  gate_up_proj: "mlp.gate_up_proj",
  down_proj: "mlp.down_proj",
});

/** Phi-3 and Phi-4-mini: a Llama with q, k, v in one matrix and gate and up in another. */
export const phi3: Family = {
  model_type: "phi3",
  architecture: "Phi3ForCausalLM",
  defaults: { rms_norm_eps: 1e-5, max_position_embeddings: 4096, original_max_position_embeddings: 4096 },
  plan: (json, sizes) => {
    onlyActivation(json, "hidden_act", "silu");
    const rope = readRope(json, sizes.max_position_embeddings, sizes.head_dim);
    return llamaPlan(sizes, rope, { linears: LINEARS }, readWindow(json));
  },
};
