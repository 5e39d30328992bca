/**
 * Fields of a `config.json` that its family does not read. Which of them change what transformers' decoders compute was
 * read from its configuration classes (5.23).
 */
import { isAbsent, refuse } from "./_fields.ts";

/** Whether a value changes nothing where a model knows the field. */
type Neutral = (value: unknown) => boolean;

const is = (...neutral: readonly unknown[]): Neutral => (value) => neutral.includes(value);
const each = (neutral: unknown): Neutral => (value) =>
  Array.isArray(value) && value.every((item) => item === neutral);
const on = is(true);
const off = is(false, 0);
const one = is(1, false);

/** What changes the arithmetic of a model that knows it, and at which value beside null and empty ones it does not. */
const ALTERING: readonly (readonly [field: RegExp, neutral: Neutral])[] = [
  // attention
  [/^(is_)?causal$/, on],
  [/bidirectional|^prefix_lm$|^is_encoder(_decoder)?$|^add_cross_attention$|^attn_type$/, off],
  [/^layer_types$/, each("full_attention")],
  [/^attention_chunk_size$|^use_sliding_window$|^sliding_window_(pattern|size)$|^window_size$|^swa_/, off],
  [/^attn_temperature_tuning$|^floor_scale$|^attention_sinks?$|clip_(qkv|threshold)$|^pruned_heads$/, off],
  [/^global_attn_every|^use_attention_gate$|^attention_k_eq_v$|^attention_value_scale$|^log_scaling_/, off],
  [/softcap|soft_cap/, off],
  [/qk_?(layer)?_?norm/, off],
  [/^(multi_query|(q|kv|o)_lora_rank|qk_(nope|rope)_head_dim|v_head_dim|num_kv_shared_layers)$/, off],
  [/^per_layer_config$|^fusion_config$|_per_layer$/, off],
  // positions
  [/^no_rope_layers$/, each(1)],
  [/^no_rope_layer_interval$|^alibi$|^rope_interleave|^rotary_dim$|^mrope_section$|^layer_rope_theta$/, off],
  [/learned_pos|^sinusoidal_embeddings$|^position_bias_/, off],
  [/^(partial_rotary_factor|rotary_pct|rotary_percent|rotary_emb_fraction)$/, one],
  [/^position_embedding_type$/, is("absolute", "rope", "rotary")],
  [/^rope_(scaling|parameters|local_base_freq)$/, off],
  // scales
  [/(^|_)(multipliers?|logit_scale|attn_scale|logits_scaling|attention_scaling|embedding_scale)$/, one],
  [/^mup_|^scale_(emb|depth)|^dim_model_base$|^route_scale$|_(alpha|beta|scaling)_factor$/, one],
  [/^rescale_/, off],
  // projections and the mlp
  [/^no_bias$/, on],
  [/(^|_)bias$|^use_\w*bias$|^add_bias_linear$/, off],
  [/experts?$|^moe_|_moe(_|$)|^first_k_dense_replace$|^mlp_only_layers$|^num_dense_layers$/, off],
  [/^(altup|laurel)_|per_layer_input$|^activation_sparsity_pattern$|^swiglu_|^use_double_wide_mlp$/, off],
  [/^(use_)?parallel_(attn|residual)$|^new_decoder_architecture$/, off],
  [/(post|sandwich|pre)_norm$|^apply_residual_connection_post_layernorm$/, off],
];

/** What says nothing of a decoder's arithmetic: training, generation, storage, other heads, people. */
const HARMLESS: readonly RegExp[] = [
  /^_|drop|loss|init|jitter|_coef$/,
  /token_(id|index)$|^(architectures|model_type|auto_map|torch_dtype|dtype|name_or_path|tokenizer_class)$/,
  /version|^unsloth_|^transformers|^quantization_config$|^task_specific_params$|^(finetuning_task|prefix)$/,
  /cache|^output_(hidden_states|attentions|router_logits|scores|past)$|^return_dict|gradient_checkpointing|^torchscript$|bfloat16|flash_attn|attn_implementation/,
  /label|^problem_type$|^summary_|^num_classes$|^chunk_size_feed_forward$|^pretraining_tp$|^tie_|^is_decoder$/,
  /^num_(logits_to_keep|nextn_predict_layers|mtp_layers)$|^mtp_|^neftune_noise_alpha$|^n_ctx$/,
  /^(min|max)_(length|new_tokens|window_layers)$|^(do_sample|temperature|top_k|top_p|typical_p|early_stopping)$/,
  /_penalty$|^num_(beams|beam_groups|return_sequences)$|no_repeat_ngram_size$|^(begin_)?suppress_tokens$/,
  /^bad_words_ids$|^remove_invalid_values$|^reorder_and_upcast_attn$|^(model_max_length|original_max_position_embeddings)$/,
  // what a picture would take
  /vision|image|^mm_|multimodal|^projector_|^spatial_merge_size$|^processor_/,
];

/** Of the unknown. */
const MOST_NAMED = 50;

/** Keys of rotary settings that one kind of scaling reads and another ignores. */
const ROPE_KEYS =
  /^((\w+_)?factor|rope_theta|(rope_)?type|beta_(fast|slow)|mscale(_all_dim)?|truncate|original_max_position_embeddings|finetuned)$/;

/**
 * Looks at the fields that a family has not read.
 *
 * @param unread their names, of nested ones with what holds them in front, and values
 * @returns a sentence that names those of which nobody knows what they mean; none where there are none
 * @throws InputError for one that changes the arithmetic of models that know it
 */
export function checkUnread(
  unread: readonly (readonly [name: string, value: unknown])[],
  model_type: string,
): string[] {
  const unknown: string[] = [];
  for (const [path, value] of unread) {
    const [name, parent = ""] = path.split(".").toReversed() as [string, string?];
    const inRope = /^rope_|_attention$/.test(parent);
    if (!inRope && HARMLESS.some((field) => field.test(name) || field.test(path))) continue;
    const neutral = inRope ? neutralInRope(name) : ALTERING.find(([field]) => field.test(name))?.[1];
    if (isEmpty(value) || (value === false && !neutral)) continue;
    if (neutral && !neutral(value)) {
      refuse(path, value, `absent, or of no effect: models of the type ${model_type} do not know it`);
    }
    if (!neutral) unknown.push(path);
  }
  if (unknown.length === 0) return [];
  return [
    `config.json has fields that a model of the type ${model_type} does not read, and they are ignored: ` +
    `${unknown.slice(0, MOST_NAMED).join(", ")}${
      unknown.length > MOST_NAMED ? ` and ${unknown.length - MOST_NAMED} more` : ""
    }.`,
  ];
}

/** Whatever a kind of scaling does not read of rotary settings changes them, unless another kind is known to read it. */
function neutralInRope(name: string): Neutral | undefined {
  if (ROPE_KEYS.test(name)) return undefined;
  return name === "alpha" ? one : off; // HunYuan's, which stretches the base
}

function isEmpty(value: unknown): boolean {
  return isAbsent(value) || value === "" || (typeof value === "object" && Object.keys(value!).length === 0);
}
