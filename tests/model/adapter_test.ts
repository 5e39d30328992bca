import { LINEAR_LAYERS } from "../../src/model/plan.ts";
import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import {
  type Adapter,
  hasAdapter,
  readAdapter,
  readAdapterConfig,
  writeAdapter,
} from "../../src/model/adapter.ts";
import { formatAdapterConfig, type TargetModules } from "../../src/model/adapter_config.ts";
import { targetedModules } from "../../src/model/adapter_modules.ts";
import { parseModelConfig, readModelConfig } from "../../src/model/config.ts";
import { linearModules, linearNames } from "../../src/model/modules.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { inFolder } from "../helpers/folder.ts";

/** Saved by PEFT itself, see tests/reference/peft_adapter.py. */
const FIXTURE = `${import.meta.dirname}/../fixtures/peft_adapter`;
const model = await readModelConfig(FIXTURE);
const NOTHING_SAVED = { modules_to_save: [], ensure_weight_tying: false };

/** The fixture's files in another folder, with some of the configuration's keys changed. */
async function copyFixture(dir: string, change: Record<string, unknown> = {}): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(`${FIXTURE}/adapter_config.json`));
  await Deno.writeTextFile(`${dir}/adapter_config.json`, JSON.stringify({ ...json, ...change }));
  await Deno.copyFile(`${FIXTURE}/adapter_model.safetensors`, `${dir}/adapter_model.safetensors`);
}

Deno.test("linearModules() names every linear layer with its shape", () => {
  const modules = linearModules(model);
  assert.equal(modules.length, 14);
  assert.deepEqual(modules[8], {
    path: "model.layers.1.self_attn.k_proj",
    layer: 1,
    name: "k_proj",
    inputs: 12,
    outputs: 4,
    transposed: false,
  });
  assert.deepEqual(modules.slice(3, 7).map(({ path, inputs, outputs }) => [path, inputs, outputs]), [
    ["model.layers.0.self_attn.o_proj", 12, 12],
    ["model.layers.0.mlp.gate_proj", 12, 20],
    ["model.layers.0.mlp.up_proj", 12, 20],
    ["model.layers.0.mlp.down_proj", 20, 12],
  ]);
});

Deno.test("targetedModules() takes names, ends of paths, all-linear and regular expressions", () => {
  const paths = (targets: TargetModules) => targetedModules(model, targets).map(({ path }) => path);
  const all = linearModules(model).map(({ path }) => path);
  assert.deepEqual(paths("all-linear"), all);
  assert.deepEqual(paths(LINEAR_LAYERS), all);
  assert.deepEqual(paths(["1.mlp.up_proj", "model.layers.0.self_attn.q_proj"]), [
    "model.layers.0.self_attn.q_proj",
    "model.layers.1.mlp.up_proj",
  ]);
  assert.deepEqual(paths({ pattern: String.raw`.*\.1\.self_attn\.(?P<which>q|v)_proj` }), [
    "model.layers.1.self_attn.q_proj",
    "model.layers.1.self_attn.v_proj",
  ]);
  assert.deepEqual(paths({ pattern: String.raw`.*\.\d{,2}0\.mlp\.(?P<w>u)p_proj` }), [
    "model.layers.0.mlp.up_proj",
  ]);
  assert.deepEqual(paths({ pattern: "(?i).*0.*DOWN_PROJ" }), ["model.layers.0.mlp.down_proj"]);
});

for (
  const [targets, message] of [
    [["q_proj", "qproj"], /"qproj" matches no linear layer/],
    [["roj"], /"roj" matches no linear layer/],
    [[], /\[\] matches no linear layer/],
    [["self_attn"], /matches no linear layer/],
    [["q_proj", "lm_head"], /names lm_head, but only the blocks' linear layers/],
    [["embed_tokens"], /names model\.embed_tokens/],
    [{ pattern: ".*" }, /names lm_head/],
    [{ pattern: "q_proj" }, /matches no linear layer/],
    [{ pattern: "(" }, /a regular expression/],
  ] as readonly [TargetModules, RegExp][]
) {
  Deno.test(`targetedModules() refuses ${JSON.stringify(targets)}`, () => {
    assert.throws(() => targetedModules(model, targets), { name: "InputError", message });
  });
}

Deno.test("readAdapter() reads what PEFT saved", async () => {
  const { config, tensors } = await readAdapter(FIXTURE, model);
  assert.deepEqual(config, {
    r: 2,
    lora_alpha: 4,
    lora_dropout: 0.05,
    target_modules: ["v_proj", "down_proj", "q_proj"],
    use_rslora: false,
    ...NOTHING_SAVED,
    base_model_name_or_path: "tiny-llama",
  });
  assert.deepEqual(
    tensors.map(({ module }) => module),
    linearModules(model).filter(({ name }) => ["q_proj", "v_proj", "down_proj"].includes(name)),
  );
  for (const { module, a, b } of tensors) {
    assert.deepEqual(a, Float32Array.from({ length: 2 * module.inputs }, (_, k) => k / 16 - 1), module.path);
    assert.deepEqual(b, Float32Array.from({ length: module.outputs * 2 }, (_, k) => 1 - k / 32), module.path);
  }
});

Deno.test("writeAdapter() gives the files that PEFT saved, byte for byte", async () => {
  await inFolder(async (dir) => {
    assert.equal(await hasAdapter(dir), false);
    await writeAdapter(dir, await readAdapter(FIXTURE, model));
    assert.equal(await hasAdapter(dir), true);
    const file = (folder: string) => Deno.readFile(`${folder}/adapter_model.safetensors`);
    assert.deepEqual(await file(dir), await file(FIXTURE));
    const config = await Deno.readTextFile(`${FIXTURE}/adapter_config.json`);
    assert.equal(await Deno.readTextFile(`${dir}/adapter_config.json`), config.trimEnd());
  });
});

Deno.test("writeAdapter() and readAdapter() give back an adapter of every type and target", async () => {
  const targets: TargetModules[] = ["all-linear", ["o_proj"], { pattern: String.raw`.*1\.mlp.*_proj` }];
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    for (const target_modules of targets) {
      const adapter: Adapter = {
        config: {
          r: 3,
          lora_alpha: 1.5,
          lora_dropout: 0,
          target_modules,
          use_rslora: dtype === "F16",
          ...NOTHING_SAVED,
          base_model_name_or_path: null,
        },
        tensors: targetedModules(model, target_modules).map((module, n) => ({
          module,
          a: Float32Array.from({ length: 3 * module.inputs }, (_, k) => (k + n) / 8),
          b: Float32Array.from({ length: 3 * module.outputs }, (_, k) => -(k + n) / 4),
        })),
        saved: { weights: [], tied: false, untied: false },
      };
      await inFolder(async (dir) => {
        await writeAdapter(dir, adapter, dtype);
        const back = await readAdapter(dir, model);
        assert.deepEqual(back.tensors, adapter.tensors);
        const written = target_modules === "all-linear" ? [...LINEAR_LAYERS] : target_modules;
        assert.deepEqual(back.config, { ...adapter.config, target_modules: written });
        using file = await WeightFiles.openFile(`${dir}/adapter_model.safetensors`);
        assert.equal(file.info(file.names()[0]!).dtype, dtype);
        assert.deepEqual(file.metadata, { format: "pt" });
      });
    }
  }
});

Deno.test("writeAdapter() refuses a factor of another size", async () => {
  const adapter = await readAdapter(FIXTURE, model);
  const tensors = adapter.tensors.map(({ module, a, b }) => ({ module, a: a.subarray(1), b }));
  await inFolder((dir) => assert.rejects(writeAdapter(dir, { ...adapter, tensors }), RangeError));
});

Deno.test("formatAdapterConfig() sorts its keys as PEFT does", () => {
  const config = {
    r: 8,
    lora_alpha: 16,
    lora_dropout: 0,
    target_modules: "all-linear",
    use_rslora: false,
    ...NOTHING_SAVED,
    base_model_name_or_path: null,
  };
  const keys = Object.keys(JSON.parse(formatAdapterConfig({ ...config, target_modules: "all-linear" })));
  assert.deepEqual(keys, keys.toSorted());
});

Deno.test("an adapter of GPT-2 has PEFT's names and says that its layers are Conv1D", async () => {
  const gpt2 = parseModelConfig({ model_type: "gpt2", vocab_size: 7, n_embd: 4, n_head: 2, n_layer: 2 });
  assert.deepEqual(linearNames(gpt2), ["c_attn", "c_proj", "c_fc"]);
  const modules = targetedModules(gpt2, ["c_proj"]);
  assert.deepEqual(modules.map(({ path, inputs, outputs }) => [path, inputs, outputs]), [
    ["transformer.h.0.attn.c_proj", 4, 4],
    ["transformer.h.0.mlp.c_proj", 16, 4],
    ["transformer.h.1.attn.c_proj", 4, 4],
    ["transformer.h.1.mlp.c_proj", 16, 4],
  ]);
  for (const outside of ["wte", "wpe", "lm_head"]) {
    assert.throws(() => targetedModules(gpt2, [outside]), {
      name: "InputError",
      message: /c_attn|only the blocks/,
    });
  }
  await inFolder(async (dir) => {
    const { config } = await readAdapter(FIXTURE, model);
    const adapter = {
      config: { ...config, r: 1, target_modules: ["c_proj"] },
      tensors: modules.map((module, n) => ({
        module,
        a: Float32Array.from({ length: module.inputs }, (_, i) => i + n),
        b: Float32Array.from({ length: module.outputs }, (_, i) => i - n),
      })),
      saved: { weights: [], tied: false, untied: false },
    };
    await writeAdapter(dir, adapter);
    const path = `${dir}/adapter_config.json`;
    const json = JSON.parse(await Deno.readTextFile(path));
    assert.equal(json.fan_in_fan_out, true);
    using file = await WeightFiles.openFile(`${dir}/adapter_model.safetensors`);
    const name = "base_model.model.transformer.h.1.mlp.c_proj.lora_A.weight";
    assert.deepEqual(file.info(name).shape, [1, 16]);
    assert.deepEqual(await readAdapter(dir, gpt2), adapter);
    await Deno.writeTextFile(path, JSON.stringify({ ...json, layers_to_transform: 1, layers_pattern: "h" }));
    assert.equal((await readAdapterConfig(dir, gpt2)).modules.length, 2);
  });
});

Deno.test("readAdapter() leaves out the modules of exclude_modules and layers_to_transform", async () => {
  const layerOf = (name: string) => name.includes(".layers.1.");
  for (
    const [change, keep] of [
      [
        { exclude_modules: ["0.mlp.down_proj", "q_proj"] },
        (name: string) => !/0\.mlp\.down|q_proj/.test(name),
      ],
      [{ exclude_modules: ".*q_proj" }, (name: string) => !name.includes("q_proj")],
      [{ layers_to_transform: [1], layers_pattern: "layers" }, layerOf],
      [{ layers_to_transform: 1 }, layerOf],
    ] as const
  ) {
    await inFolder(async (dir) => {
      await copyFixture(dir, change);
      // PEFT would have saved only the modules that are left.
      await assert.rejects(readAdapter(dir, model), {
        name: "InputError",
        message: /which its target_modules and modules_to_save do not name/,
      });
      using whole = await WeightFiles.openFile(`${FIXTURE}/adapter_model.safetensors`);
      const kept: TensorSource[] = [];
      for (const name of whole.names().filter(keep)) {
        const { shape } = whole.info(name);
        kept.push({ name, dtype: "F32", shape, data: await whole.read(name) });
      }
      assert.ok(kept.length > 0 && kept.length < 12);
      await writeSafetensors(`${dir}/adapter_model.safetensors`, kept);
      assert.equal((await readAdapter(dir, model)).tensors.length * 2, kept.length);
    });
  }
});

for (
  const [field, value] of [
    ["peft_type", "IA3"],
    ["peft_type", undefined],
    ["task_type", "SEQ_CLS"],
    ["bias", "lora_only"],
    ["init_lora_weights", "pissa"],
    ["use_dora", true],
    ["use_rslora", 1],
    ["use_qalora", true],
    ["lora_bias", true],
    ["rank_pattern", { "q_proj": 0 }],
    ["rank_pattern", { "q_proj": 1.5 }],
    ["rank_pattern", [4]],
    ["rank_pattern", { "(": 4 }],
    ["alpha_pattern", { "q_proj": "4" }],
    ["alpha_pattern", { "q_proj": 0 }],
    ["rank_pattern", { "q_proj": 1e9 }],
    ["rank_pattern", Object.fromEntries(Array.from({ length: 2001 }, (_, i) => [`${i}`, 4]))],
    ["alpha_pattern", { "q_proj": 1e39 }],
    ["modules_to_save", Array(2001).fill("lm_head")],
    ["r", 1e9],
    ["lora_alpha", 1e39],
    ["exclude_modules", [{}]],
    ["modules_to_save", "lm_head"],
    ["modules_to_save", ["lm_head|embed_tokens"]],
    ["trainable_token_indices", [1]],
    ["layer_replication", [[0, 1]]],
    ["target_parameters", ["w"]],
    ["alora_invocation_tokens", [1, 2]],
    ["an_option_of_tomorrow", 0.5],
    ["r", 0],
    ["r", undefined],
    ["r", 2.5],
    ["lora_alpha", 0],
    ["lora_alpha", undefined],
    ["lora_alpha", "16"],
    ["lora_dropout", 1],
    ["target_modules", null],
    ["target_modules", []],
    ["target_modules", [1]],
    ["target_modules", "("],
    ["exclude_modules", 3],
    ["layers_to_transform", ["1"]],
    ["layers_pattern", "h"],
  ] as const
) {
  Deno.test(`readAdapter() refuses ${field} ${JSON.stringify(value) ?? "missing"}`, async () => {
    await inFolder(async (dir) => {
      await copyFixture(dir, {
        ...(field === "layers_pattern" ? { layers_to_transform: 1 } : {}),
        [field]: value,
      });
      await assert.rejects(readAdapter(dir, model), (error) => {
        assert.ok(error instanceof InputError, `${error}`);
        assert.equal(error.field, `adapter_config.json: ${field}`);
        assert.match(
          error.message,
          new RegExp(`^adapter_config\\.json: ${field} is .*, but must be |${field} is missing`),
        );
        return true;
      });
    });
  });
}

for (const init of ["eva", "orthogonal", "Gaussian", "mica", true, false, null]) {
  Deno.test(`readAdapter() takes init_lora_weights ${init}, which leaves the base as it is`, () =>
    inFolder(async (dir) => {
      await copyFixture(dir, { init_lora_weights: init });
      assert.equal((await readAdapter(dir, model)).tensors.length, 6);
    }));
}

for (const init of ["pissa", "pissa_niter_4", "olora", "corda", "loftq", "lora_ga"]) {
  Deno.test(`readAdapter() refuses init_lora_weights ${init} with what converts it, as it changes the base`, () =>
    inFolder(async (dir) => {
      await copyFixture(dir, { init_lora_weights: init });
      await assert.rejects(readAdapter(dir, model), {
        message:
          /init_lora_weights is .*leaves the base's weights alone.*PEFT makes such an adapter of this one by/,
      });
    }));
}

Deno.test("readAdapter() takes options that are switched off, and an init that leaves the base model alone", async () => {
  await inFolder(async (dir) => {
    await copyFixture(dir, {
      use_future: false,
      future_list: [],
      future: null,
      init_lora_weights: "gaussian",
      task_type: null,
    });
    assert.equal((await readAdapter(dir, model)).tensors.length, 6);
  });
});

Deno.test("readAdapter() refuses an adapter of another model", async () => {
  const json = JSON.parse(await Deno.readTextFile(`${FIXTURE}/config.json`));
  for (
    const [change, message] of [
      [{ intermediate_size: 24 }, /down_proj\.lora_A\.weight has the shape \[2,20\].*asks for \[2,24\]/],
      [{ num_key_value_heads: 3 }, /v_proj\.lora_B\.weight has the shape \[4,2\].*asks for \[12,2\]/],
      [{ num_hidden_layers: 1 }, /holds base_model\.model\.model\.layers\.1\..*do not name in this model/],
      [
        { num_hidden_layers: 3 },
        /no tensor "base_model\.model\.model\.layers\.2\.self_attn\.q_proj\.lora_A\.weight"/,
      ],
    ] as const
  ) {
    const other = parseModelConfig({ ...json, ...change });
    await assert.rejects(readAdapter(FIXTURE, other), { name: "InputError", message });
  }
});

Deno.test("readAdapter() refuses a rank that the tensors do not have, NaN, and missing or foreign files", async () => {
  await inFolder(async (dir) => {
    const refused = (message: RegExp) =>
      assert.rejects(readAdapter(dir, model), { name: "InputError", message });
    await refused(/adapter_config\.json is not in/);
    await copyFixture(dir, { r: 3 });
    await refused(/has the shape \[2,12\].*asks for \[3,12\]/);
    await copyFixture(dir);
    await Deno.remove(`${dir}/adapter_model.safetensors`);
    await refused(/adapter_model\.safetensors is not in/);
    await Deno.writeFile(`${dir}/adapter_model.bin`, new Uint8Array(9));
    await refused(/adapter_model\.bin, which must be converted/);
    const { config, tensors: [first], saved } = await readAdapter(FIXTURE, model);
    const b = Float32Array.from(first!.b, (value, i) => i === 3 ? NaN : value);
    const target_modules = [first!.module.path];
    await writeAdapter(
      dir,
      { config: { ...config, target_modules }, tensors: [{ ...first!, b }], saved },
      "BF16",
    );
    await refused(/layers\.0\.self_attn\.q_proj\.lora_B\.weight holds NaN at element 3/);
    await writeSafetensors(`${dir}/adapter_model.safetensors`, []);
    await refused(/holds no tensor|no tensor "base_model/);
    await writeSafetensors(`${dir}/adapter_model.safetensors`, [
      {
        name: "base_model.model.lm_head.weight",
        dtype: "F32",
        shape: [1],
        data: fromF32(Float32Array.of(1), "F32"),
      },
    ]);
    await refused(/holds base_model\.model\.lm_head\.weight, which/);
  });
});
