import assert from "node:assert/strict";
import { targetedModules } from "../../src/model/adapter_modules.ts";
import { parseModelConfig } from "../../src/model/config.ts";
import { checkSavedNames, heededNames, savedModules } from "../../src/model/saved_modules.ts";

const LLAMA = {
  model_type: "llama",
  vocab_size: 7,
  hidden_size: 4,
  intermediate_size: 6,
  num_hidden_layers: 2,
  num_attention_heads: 2,
};
const untied = parseModelConfig({ ...LLAMA, tie_word_embeddings: false });
const tied = parseModelConfig({ ...LLAMA, tie_word_embeddings: true });
const gpt2 = parseModelConfig({ model_type: "gpt2", vocab_size: 7, n_embd: 4, n_head: 2, n_layer: 1 });
const qwen2 = parseModelConfig({ ...LLAMA, model_type: "qwen2", num_key_value_heads: 2 });

function names(model: typeof tied, modules_to_save: string[], ensure_weight_tying = false): string[] {
  return savedModules(model, { modules_to_save, ensure_weight_tying }).weights.map(({ name }) => name);
}

// What PEFT 0.21.2 writes for each.
for (
  const [model, ends, expected] of [
    [untied, ["embed_tokens", "lm_head"], ["model.embed_tokens.weight", "lm_head.weight"]],
    [tied, ["embed_tokens"], ["model.embed_tokens.weight"]],
    [tied, ["lm_head"], ["lm_head.weight"]],
    [untied, ["norm"], [
      "model.layers.0.input_layernorm.weight",
      "model.layers.0.post_attention_layernorm.weight",
      "model.layers.1.input_layernorm.weight",
      "model.layers.1.post_attention_layernorm.weight",
      "model.norm.weight",
    ]],
    [untied, ["model.norm"], ["model.norm.weight"]],
    [untied, ["1.mlp"], [
      "model.layers.1.mlp.gate_proj.weight",
      "model.layers.1.mlp.up_proj.weight",
      "model.layers.1.mlp.down_proj.weight",
    ]],
    [untied, ["1.mlp", "1.mlp.up_proj"], [
      "model.layers.1.mlp.gate_proj.weight",
      "model.layers.1.mlp.up_proj.weight",
      "model.layers.1.mlp.down_proj.weight",
    ]],
    [qwen2, ["0.self_attn.q_proj"], [
      "model.layers.0.self_attn.q_proj.weight",
      "model.layers.0.self_attn.q_proj.bias",
    ]],
    [gpt2, ["wte", "wpe", "ln_f"], [
      "transformer.wte.weight",
      "transformer.wpe.weight",
      "transformer.ln_f.weight",
      "transformer.ln_f.bias",
    ]],
    [untied, ["q_pro", "weight", "layers.2"], []],
    [untied, [], []],
  ] as const
) {
  Deno.test(`savedModules() names the weights of ${JSON.stringify(ends)} as PEFT does: ${expected.length}`, () => {
    assert.deepEqual(names(model, [...ends]), expected);
  });
}

Deno.test("savedModules() keeps tables tied where that is asked for and PEFT knows their names", () => {
  const of = (model: typeof tied, end: string, ensure_weight_tying: boolean) => {
    const { weights, tied, untied } = savedModules(model, { modules_to_save: [end], ensure_weight_tying });
    return [weights.map(({ name }) => name).join(), tied, untied];
  };
  for (const end of ["embed_tokens", "lm_head"]) {
    assert.deepEqual(of(tied, end, true), ["model.embed_tokens.weight", true, false]);
    assert.deepEqual(of(tied, end, false).slice(1), [false, true]);
    assert.deepEqual(of(untied, end, true).slice(1), [false, false]);
  }
  assert.deepEqual(of(tied, "model.norm", true), ["model.norm.weight", false, false]);
  assert.deepEqual(of(gpt2, "wte", true), ["transformer.wte.weight", false, true]);
  assert.deepEqual(of(gpt2, "lm_head", true), ["transformer.wte.weight", true, false]);
});

Deno.test("checkSavedNames() has GPT-2's tables tied by a name that PEFT knows", () => {
  const asked = { modules_to_save: ["wte", "ln_f"], ensure_weight_tying: true };
  const checked = checkSavedNames(gpt2, asked);
  assert.deepEqual(checked.modules_to_save, ["wte", "ln_f", "lm_head"]);
  assert.equal(savedModules(gpt2, checked).tied, true);
  const known = { modules_to_save: ["embed_tokens"], ensure_weight_tying: true };
  assert.deepEqual(checkSavedNames(tied, known), known);
});

for (
  const [model, modules_to_save, ensure_weight_tying, message] of [
    [
      tied,
      ["norm", "wte"],
      false,
      /^modules_to_save: "wte" matches no module of the model; give names out of embed_tokens, /,
    ],
    [tied, ["q_pro"], false, /"q_pro" matches no module/],
    [tied, ["q_proj|k_proj"], false, /matches no module/],
    [tied, [""], false, /"" matches no module/],
    [untied, ["lm_head"], true, /^ensure_weight_tying is true, but modules_to_save names no tied table\.$/],
    [tied, ["norm"], true, /^ensure_weight_tying is true/],
    [tied, [], true, /^ensure_weight_tying is true/],
  ] as const
) {
  Deno.test(`checkSavedNames() refuses ${JSON.stringify(modules_to_save)}, tying ${ensure_weight_tying}`, () => {
    assert.throws(() => checkSavedNames(model, { modules_to_save, ensure_weight_tying }), {
      name: "InputError",
      message,
    });
  });
}

Deno.test("checkSavedNames() says what there is", () => {
  assert.throws(() => checkSavedNames(gpt2, { modules_to_save: ["norm"], ensure_weight_tying: false }), {
    problem: {
      path: ["modules_to_save"],
      value: "norm",
      accepted: "names out of wte, wpe, ln_1, ln_2, c_attn, c_proj, c_fc, ln_f, lm_head",
    },
  });
});

Deno.test("heededNames() leaves out what says nothing of the model", () => {
  const found = { modules_to_save: ["score", "lm_head", "norm"], ensure_weight_tying: true };
  assert.deepEqual(heededNames(untied, found), {
    modules_to_save: ["lm_head", "norm"],
    ensure_weight_tying: false,
  });
  assert.deepEqual(heededNames(tied, found), {
    modules_to_save: ["lm_head", "norm"],
    ensure_weight_tying: true,
  });
});

Deno.test("targetedModules() gives a saved module no factors", () => {
  const paths = (targets: string[] | "all-linear", saved: string[]) =>
    targetedModules(untied, targets, saved).map(({ path }) => path);
  assert.deepEqual(paths(["q_proj", "v_proj"], ["q_proj", "1.self_attn"]), [
    "model.layers.0.self_attn.v_proj",
  ]);
  const block = [...Array(4)].map((_, i) => `model.layers.0.self_attn.${"qkvo"[i]}_proj`);
  assert.deepEqual(paths("all-linear", ["mlp", "layers.1"]), block);
  assert.throws(() => paths(["q_proj"], ["self_attn"]), {
    name: "InputError",
    message: "modules_to_save leaves no module of target_modules to adapt.",
  });
  // PEFT wraps these modules by the ends of their names, and gives them factors too
  for (const end of ["proj", "lp", "ayers.0"]) {
    assert.throws(() => paths("all-linear", [end]), {
      name: "InputError",
      message: /is a module to save by a part of its name and to adapt by another/,
    });
  }
});
