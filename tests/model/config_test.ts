import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { parseModelConfig, readModelConfig } from "../../src/model/config.ts";
import { ropeFrequencies } from "../../src/model/rope.ts";
import { FAMILIES, familyFolder } from "../reference/families.ts";
import { readDefaults } from "../reference/folders.ts";
import cases from "../fixtures/rope_frequencies.json" with { type: "json" };

const SMALL = {
  model_type: "llama",
  vocab_size: 500,
  hidden_size: 60,
  intermediate_size: 100,
  num_hidden_layers: 3,
  num_attention_heads: 6,
};

Deno.test("parseModelConfig() fills in what transformers would", () => {
  const { plan, ...config } = parseModelConfig(SMALL);
  assert.deepEqual(plan.ropes, [{ rotary_dim: 10, rope_theta: 10000, rope_scaling: { type: "none" } }]);
  assert.deepEqual(plan.layers, Array(3).fill({ window: null, rope: 0 }));
  assert.equal(plan.block.query_scale, 1 / Math.sqrt(10));
  assert.deepEqual(config, {
    ...SMALL,
    num_key_value_heads: 6,
    head_dim: 10,
    rms_norm_eps: 1e-6,
    max_position_embeddings: 2048,
    context_length: 2048,
    tie_word_embeddings: false,
    initializer_range: 0.02,
    eos_token_ids: [],
    bos_token_id: null,
    warnings: [],
  });
});

Deno.test("parseModelConfig() fills in what every class of transformers does, in a text_config too", async () => {
  for (const { config, expected } of await readDefaults()) {
    const { plan, ...parsed } = parseModelConfig(config);
    const { windows, rope_thetas, rotated, softcaps, ...rest } = expected;
    const { query_pre_attn_scalar: scalar, attention_multiplier: scale, ...sizes } = rest;
    const found = Object.fromEntries(
      Object.keys(sizes).map((name) => [name, parsed[name as keyof typeof parsed]]),
    );
    assert.deepEqual(found, sizes);
    const what = JSON.stringify(config);
    assert.deepEqual(plan.layers.map(({ window }) => window), windows, what);
    assert.deepEqual(plan.ropes.map(({ rope_theta }) => rope_theta), rope_thetas, what);
    const query_scale = scale ?? (scalar ?? parsed.head_dim) ** -0.5;
    assert.equal(Math.fround(plan.block.query_scale), Math.fround(query_scale), what);
    assert.deepEqual(plan.layers.map(({ rope }) => rope !== null), rotated, what);
    assert.deepEqual([plan.block.attention_softcap, plan.logit_softcap], softcaps, what);
  }
});

Deno.test("parseModelConfig() has nothing to say of the files that transformers writes", async () => {
  for (const family of FAMILIES) {
    for (const file of ["config.json", "config_transformers4.json"]) {
      const text = await Deno.readTextFile(`${familyFolder(family)}/${file}`);
      assert.deepEqual(parseModelConfig(JSON.parse(text)).warnings, [], `${family}/${file}`);
    }
  }
});

Deno.test("parseModelConfig() takes Gemma's published activations for the class's own", () => {
  const published = { hidden_act: "gelu", hidden_activation: "gelu_pytorch_tanh" };
  const gemma = { ...SMALL, model_type: "gemma", num_key_value_heads: 6 };
  const { plan, warnings } = parseModelConfig({ ...gemma, ...published });
  assert.deepEqual([plan.block.activation, warnings], ["gelu_tanh", []]);
  assert.throws(() => parseModelConfig({ ...gemma, hidden_act: "relu" }), { name: "InputError" });
});

Deno.test("parseModelConfig() names the fields that it does not read, and nothing that is known to be harmless", () => {
  const harmless = {
    use_cache: true,
    _name_or_path: "x",
    attention_dropout: 0.1,
    "transformers.js_config": { a: 1 },
  };
  const { warnings } = parseModelConfig({
    ...SMALL,
    ...harmless,
    sliding_window: 4096,
    future: 1,
    rope_scaling: { rope_type: "linear", factor: 2, beta_fast: 3, alpha: 1 },
  });
  assert.deepEqual(warnings, [
    "config.json has fields that a model of the type llama does not read, and they are ignored: sliding_window, " +
    "future, rope_scaling.beta_fast.",
  ]);
});

Deno.test("readModelConfig() warns of a quantization_config where there are no weights to look at", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const write = (config: unknown) => Deno.writeTextFile(`${dir}/config.json`, JSON.stringify(config));
    await write({ ...SMALL, quantization_config: { quant_method: "awq" } });
    assert.deepEqual((await readModelConfig(dir)).warnings, [
      'config.json has a quantization_config ("awq"): quantised weights are refused.',
    ]);
    await write({ ...SMALL, quantization_config: {} });
    assert.deepEqual((await readModelConfig(dir)).warnings, []);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("parseModelConfig() has Gemma 3's own bases for a kind of layer that rope_parameters leaves out", () => {
  const gemma = { ...SMALL, model_type: "gemma3_text", num_attention_heads: 8, head_dim: 16 };
  const thetas = (rope_parameters: unknown) =>
    parseModelConfig({ ...gemma, rope_parameters }).plan.ropes.map(({ rope_theta }) => rope_theta);
  assert.deepEqual(thetas({ full_attention: { rope_type: "linear", factor: 8 } }), [1e6, 1e4]);
  assert.deepEqual(thetas({ sliding_attention: { rope_type: "default" } }), [1e6, 1e4]);
  assert.deepEqual(thetas({ sliding_attention: { rope_type: "default", rope_theta: 5e3 } }), [1e6, 5e3]);
});

Deno.test("parseModelConfig() takes transformers' other names of an activation, and no other function", async () => {
  const gpt2 = JSON.parse(await Deno.readTextFile(`${familyFolder("gpt2")}/config.json`));
  const gemma = JSON.parse(await Deno.readTextFile(`${familyFolder("gemma2")}/config.json`));
  for (const name of ["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh", "gelu_accurate"]) {
    parseModelConfig({ ...gpt2, activation_function: name });
    parseModelConfig({ ...gemma, hidden_activation: name });
  }
  for (const name of ["silu", "swish"]) parseModelConfig({ ...SMALL, hidden_act: name });
  for (const name of ["gelu", "quick_gelu", "gelu_10", "mish"]) {
    assert.throws(() => parseModelConfig({ ...gpt2, activation_function: name }), { name: "InputError" });
  }
});

Deno.test("parseModelConfig() reads Llama 3.2's file as transformers 4 wrote it", () => {
  const config = parseModelConfig({
    architectures: ["LlamaForCausalLM"],
    attention_bias: false,
    attention_dropout: 0.0,
    bos_token_id: 128000,
    eos_token_id: [128001, 128008, 128009],
    head_dim: 64,
    hidden_act: "silu",
    hidden_size: 2048,
    initializer_range: 0.02,
    intermediate_size: 8192,
    max_position_embeddings: 131072,
    mlp_bias: false,
    model_type: "llama",
    num_attention_heads: 32,
    num_hidden_layers: 16,
    num_key_value_heads: 8,
    pretraining_tp: 1,
    rms_norm_eps: 1e-05,
    rope_scaling: {
      factor: 32.0,
      high_freq_factor: 4.0,
      low_freq_factor: 1.0,
      original_max_position_embeddings: 8192,
      rope_type: "llama3",
    },
    rope_theta: 500000.0,
    sliding_window: 4096,
    tie_word_embeddings: true,
    torch_dtype: "bfloat16",
    use_cache: true,
    vocab_size: 128256,
  });
  assert.deepEqual(config.eos_token_ids, [128001, 128008, 128009]);
  assert.equal(config.bos_token_id, 128000);
  assert.equal(config.tie_word_embeddings, true);
  const [rope] = config.plan.ropes;
  assert.equal(rope?.rope_theta, 500000);
  assert.deepEqual(rope?.rope_scaling, {
    type: "llama3",
    factor: 32,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  });
});

Deno.test("parseModelConfig() takes a head size apart from the width", () => {
  const config = parseModelConfig({ ...SMALL, hidden_size: 50, head_dim: 14, num_key_value_heads: 2 });
  assert.equal(config.head_dim, 14);
  assert.equal(config.num_key_value_heads, 2);
});

Deno.test("parseModelConfig() reads rope_parameters of transformers 5 as rope_theta and rope_scaling of 4", () => {
  const scaling = { rope_type: "linear", factor: 4 };
  const four = parseModelConfig({ ...SMALL, rope_theta: 5e5, rope_scaling: { type: "linear", factor: 4 } });
  const five = parseModelConfig({ ...SMALL, rope_parameters: { ...scaling, rope_theta: 5e5 } });
  assert.deepEqual(four, five);
  assert.deepEqual(five.plan.ropes[0]?.rope_scaling, { type: "linear", factor: 4 });
});

Deno.test("parseModelConfig() goes by rope_scaling where rope_parameters stands beside it, as transformers 5, and says so", () => {
  const rope_parameters = { rope_type: "default", rope_theta: 5e4 };
  const both = parseModelConfig({ ...SMALL, rope_parameters, rope_scaling: { type: "linear", factor: 2 } });
  const { rope_theta, rope_scaling } = both.plan.ropes[0]!;
  assert.deepEqual([rope_theta, rope_scaling], [10_000, { type: "linear", factor: 2 }]);
  assert.match(
    both.warnings.join(),
    /are ignored: rope_parameters\.rope_type, rope_parameters\.rope_theta\.$/,
  );
  const empty = parseModelConfig({ ...SMALL, rope_parameters, rope_scaling: null });
  assert.deepEqual([empty.plan.ropes[0]?.rope_theta, empty.warnings], [5e4, []]);
});

Deno.test("parseModelConfig() has 4096 positions before Phi-3's stretching where the file does not say, as its class", () => {
  const factors = Array.from({ length: SMALL.hidden_size / SMALL.num_attention_heads / 2 }, () => 1);
  const scaling = { original_max_position_embeddings: 16, short_factor: factors, long_factor: factors };
  const phi3 = { ...SMALL, model_type: "phi3", max_position_embeddings: 131_072 };
  const originalOf = (fields: object) => {
    const rope = parseModelConfig({ ...phi3, ...fields }).plan.ropes[0]!.rope_scaling;
    return rope.type === "longrope" && rope.original_max_position_embeddings;
  };
  const rope_parameters = { rope_type: "longrope", ...scaling };
  assert.equal(originalOf({ rope_parameters }), 4096);
  assert.equal(originalOf({ rope_parameters, original_max_position_embeddings: 64 }), 64);
});

for (
  const [field, change] of [
    ["model_type", { model_type: "mamba" }],
    ["model_type", { model_type: undefined }],
    ["architectures", { architectures: ["LlamaForSequenceClassification"] }],
    ["hidden_act", { hidden_act: "gelu" }],
    ["attention_bias", { attention_bias: 1 }],
    ["mlp_bias", { model_type: "mistral", num_key_value_heads: 6, mlp_bias: true }],
    ["attention_bias", { model_type: "granite", attention_bias: true }],
    ["residual_multiplier", { model_type: "granite", residual_multiplier: 0 }],
    ["no_rope_layers", { model_type: "smollm3", num_key_value_heads: 6, no_rope_layers: [1, 0] }],
    ["partial_rotary_factor", { partial_rotary_factor: 0.5 }],
    ["vocab_size", { vocab_size: undefined }],
    ["vocab_size", { vocab_size: 2 ** 32 }],
    ["hidden_size", { hidden_size: "60" }],
    ["hidden_size", { hidden_size: 61 }],
    ["intermediate_size", { intermediate_size: 0 }],
    ["num_hidden_layers", { num_hidden_layers: 2.5 }],
    ["num_attention_heads", { num_attention_heads: -1 }],
    ["num_key_value_heads", { num_key_value_heads: 4 }],
    ["head_dim", { head_dim: 7 }],
    ["rms_norm_eps", { rms_norm_eps: -1 }],
    ["rms_norm_eps", { rms_norm_eps: "1e-5" }],
    ["initializer_range", { initializer_range: -0.1 }],
    ["tie_word_embeddings", { tie_word_embeddings: 1 }],
    ["max_position_embeddings", { max_position_embeddings: 0 }],
    ["eos_token_id", { eos_token_id: [2, -2] }],
    ["bos_token_id", { bos_token_id: "<s>" }],
    ["rope_theta", { rope_theta: 0 }],
    ["rope_parameters.rope_theta", { rope_parameters: { rope_theta: -1 } }],
    ["rope_theta", { rope_theta: 1e-300 }],
    ["rms_norm_eps", { rms_norm_eps: 1e39 }],
    ["rope_scaling.factor", { rope_scaling: { rope_type: "linear", factor: 1e-320 } }],
    ["rope_scaling", { rope_scaling: { rope_type: "dynamic", factor: 1e30 } }],
    ["rope_scaling", {
      rope_scaling: { rope_type: "yarn", factor: 1e38, mscale: 3e38, mscale_all_dim: 1e-30 },
    }],
    ["rope_scaling", { rope_scaling: "linear" }],
    ["rope_scaling.rope_type", { rope_scaling: { rope_type: "ntk", factor: 4 } }],
    ["rope_scaling.short_factor", { rope_scaling: { type: "longrope", factor: 2 } }],
    ["rope_scaling.factor", { rope_scaling: { type: "linear" } }],
    ["rope_scaling.factor", { rope_scaling: { type: "linear", factor: 0 } }],
    ["rope_parameters.low_freq_factor", {
      rope_parameters: { rope_type: "llama3", factor: 8, high_freq_factor: 4 },
    }],
    ["rope_parameters.high_freq_factor", {
      rope_parameters: { rope_type: "llama3", factor: 8, low_freq_factor: 4, high_freq_factor: 4 },
    }],
    ["rope_scaling.alpha", { rope_scaling: { type: "dynamic", factor: 2, alpha: 1000 } }],
    ["is_causal", { is_causal: false }],
    ["layer_types", { layer_types: ["full_attention", "sliding_attention", "full_attention"] }],
    ["no_bias", { no_bias: false }],
    ["use_bidirectional_attention", { use_bidirectional_attention: true }],
    ["per_layer_config", { per_layer_config: { 0: { num_key_value_heads: 1 } } }],
    ["text_config.final_logit_softcapping", {
      model_type: "gemma3",
      architectures: null,
      text_config: { final_logit_softcapping: 11 },
    }],
    ["rope_parameters.full_attention", { rope_parameters: { full_attention: { rope_type: "default" } } }],
  ] as const
) {
  Deno.test(`parseModelConfig() refuses ${field} in ${JSON.stringify(change, (_, value) => value ?? null)}`, () => {
    assert.throws(() => parseModelConfig({ ...SMALL, ...change }), (error) => {
      assert.ok(error instanceof InputError, `${error}`);
      assert.equal(error.field, `config.json: ${field}`);
      assert.match(
        error.message,
        new RegExp(`^config\\.json: ${field.replace(".", "\\.")} (is|is missing).* must be `),
      );
      return true;
    });
  });
}

Deno.test("readModelConfig() refuses a missing file, a folder and what is no JSON object", async () => {
  const dir = await Deno.makeTempDir();
  const path = `${dir}/config.json`;
  const refused = (message: RegExp) => assert.rejects(readModelConfig(dir), { name: "InputError", message });
  try {
    await refused(/^config\.json is not in /);
    await Deno.writeTextFile(path, "{");
    await refused(/^config\.json is not JSON: /);
    await Deno.writeTextFile(path, "[1]");
    await refused(/holds \[1\], not a JSON object/);
    await Deno.remove(path);
    await Deno.mkdir(path);
    await refused(/is a folder/);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

Deno.test("ropeFrequencies() equals transformers' inv_freq", () => {
  assert.ok(cases.length > 5);
  for (const { config, inv_freq } of cases) {
    const got = ropeFrequencies(parseModelConfig(config).plan.ropes[0]!);
    assert.equal(got.length, inv_freq.length);
    // As bits: PyTorch's vectorised power may be one unit in the last place off the correctly rounded one.
    const bits = new Int32Array(got.buffer);
    const expected = new Int32Array(Float32Array.from(inv_freq).buffer);
    const distances = bits.map((value, i) => Math.abs(value - expected[i]!));
    const label = JSON.stringify(config);
    assert.ok(distances.every((distance) => distance <= 1), label);
    assert.ok(distances.filter((distance) => distance > 0).length <= got.length / 20, label);
  }
});
