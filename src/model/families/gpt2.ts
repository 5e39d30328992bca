import { only, onlyActivation } from "../_fields.ts";
import { linears, llamaPlan } from "./_common.ts";
import type { Family } from "./family.ts";

const NAMES = {
  embedding: "transformer.wte",
  positions: "transformer.wpe",
  blocks: "transformer.h",
  norm: "transformer.ln_f",
};
const LINEARS = {
  qkv_proj: "attn.c_attn",
  o_proj: "attn.c_proj",
  up_proj: "mlp.c_fc",
  down_proj: "mlp.c_proj",
};

/**
 * GPT-2: LayerNorm, learned positions in place of rotation, a bias on every projection, an mlp without a gate, and
 * matrices that the files hold as [inputs, outputs]. Its dropout rates are not applied, as in TRL.
 */
export const gpt2: Family = {
  model_type: "gpt2",
  architecture: "GPT2LMHeadModel",
  fields: {
    hidden_size: "n_embd",
    intermediate_size: "n_inner",
    num_hidden_layers: "n_layer",
    num_attention_heads: "n_head",
    max_position_embeddings: "n_positions",
    rms_norm_eps: "layer_norm_epsilon",
  },
  defaults: { tie_word_embeddings: true, layer_norm_epsilon: 1e-5, n_positions: 1024 },
  intermediate_per_hidden: 4,
  plan: (json, sizes) => {
    onlyActivation(json, "activation_function", "gelu_tanh");
    only(json, "scale_attn_weights", true, "true: scores are divided by the root of a head's size");
    only(json, "scale_attn_by_inverse_layer_idx", false, "false: every layer has the same scale");
    only(json, "add_cross_attention", false, "false: there is no encoder to attend to");
    return {
      ...llamaPlan(sizes, null, {
        norms: { input_norm: "ln_1", mlp_norm: "ln_2" },
        linears: linears(LINEARS, () => true, true),
        activation: "gelu_tanh",
      }),
      names: NAMES,
      norm: { kind: "layer" },
    };
  },
};
