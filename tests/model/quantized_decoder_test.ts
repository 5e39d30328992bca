import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loraSpecs, withLora } from "../../src/model/decoder.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { frozenDtype } from "../../src/model/weight_formats.ts";
import { fromF32, toF32 } from "../../src/model/dtype.ts";
import { quantizeInt8 } from "../../src/model/int8.ts";
import { weightSpecs } from "../../src/model/modules.ts";
import { TrainedParameters } from "../../src/model/parameters.ts";
import type { Quantization } from "../../src/model/quantization.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { readDecoderRows, transpose } from "../../src/model/weights.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { encodedGroup, trainingStep } from "../helpers/decoder_step.ts";
import { random } from "../helpers/random.ts";
import { type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";
import { dequantizeInt8 } from "../reference/int8.ts";
import { variant } from "../helpers/tier.ts";

/** Matrices of a block that int8 leaves alone beside those that it takes. */
const MODELS: Record<string, { options: TinyModelOptions; kept: RegExp }> = {
  // o_proj's rows are 40 long
  llama: {
    options: { config: { hidden_size: 64, intermediate_size: 96, head_dim: 10 }, tied: false },
    kept: /o_proj/,
  },
  // files hold its matrices turned
  gpt2: {
    options: {
      config: {
        architectures: ["GPT2LMHeadModel"],
        model_type: "gpt2",
        n_embd: 64,
        n_inner: 72,
        n_head: 4,
        n_layer: 2,
        n_positions: 128,
        activation_function: "gelu_new",
      },
    },
    kept: /mlp\.c_proj/,
  },
};

/** The same model in f32, its int8 weights as they are rounded. */
async function writeDequantized(from: string, to: string, kept: RegExp): Promise<void> {
  const config = await readModelConfig(from);
  using checkpoint = await WeightFiles.open(from);
  const tensors: TensorSource[] = [];
  for (const spec of weightSpecs(config)) {
    const { name, shape, transposed, linear } = spec;
    let values = toF32(await checkpoint.read(name), "BF16");
    if (linear && !kept.test(name)) {
      const rows = await readDecoderRows(checkpoint, spec, 0, transposed ? shape[1]! : shape[0]);
      values = new Float32Array(dequantizeInt8(quantizeInt8(rows, "BF16")));
      if (transposed) values = transpose(values, shape[0]);
    }
    tensors.push({ name, dtype: "F32", shape, data: fromF32(values, "F32") });
  }
  await Deno.mkdir(to);
  await Deno.copyFile(`${from}/config.json`, `${to}/config.json`);
  await writeSafetensors(`${to}/model.safetensors`, tensors);
}

/** Log-probs and the adapter's gradients of two groups under a random adapter. */
async function train(gpu: Gpu, folder: string, quantization: Quantization | null, kept?: RegExp) {
  const config = await readModelConfig(folder);
  using checkpoint = await WeightFiles.open(folder);
  const { decoder, free } = await loadDecoder(gpu, checkpoint, config, { trainable: false, quantization });
  for (const { linears } of decoder.blocks) {
    for (const { weight: { name, value } } of Object.values(linears)) {
      assert.equal(value.dtype === "int8", quantization === "int8" && !kept!.test(name), name);
    }
  }
  const source = random(3);
  const lora = new TrainedParameters(gpu, loraSpecs(config, { r: 3, target_modules: "all-linear" }));
  for (const { value } of lora.parameters.values()) {
    gpu.write(value, source.normals(value.bytes / 4).map((x) => x / 10));
  }
  const tokens = (length: number) => source.integers(length, 256);
  const groups = [[7, 5, 9], [11, 1, 30]].map(([prompt, ...responses]) =>
    encodedGroup(tokens(prompt!), responses.map(tokens))
  );
  const adapted = withLora(decoder, (name) => lora.parameters.get(name), 0.5, 0);
  const dAverages = [1, -0.5, 0.3, -1];
  const step = await trainingStep(gpu, { decoder: adapted, trained: lora }, [groups], { dAverages });
  lora.free();
  free();
  return step;
}

for (const [name, { options, kept }] of Object.entries(MODELS)) {
  const test = variant(name === "llama");
  test(`an int8 ${name} computes what its rounded weights compute in f32`, async () => {
    const gpu = await Gpu.open({ device: "auto" });
    const folder = await Deno.makeTempDir();
    try {
      const model = await writeTinyModel(`${folder}/model`, { ...options, dtype: "BF16" });
      await writeDequantized(model, `${folder}/rounded`, kept);
      const int8 = await train(gpu, model, "int8", kept);
      const rounded = await train(gpu, `${folder}/rounded`, null);
      assertClose(int8.logprobs, rounded.logprobs, { rtol: 0, atol: 1e-4, name: "log-probs" });
      for (const [name, gradient] of rounded.gradients) {
        assertClose(int8.gradients.get(name)!, gradient, { rtol: 1e-4, name });
      }
      const plain = await train(gpu, model, null);
      assert.throws(() => assertClose(int8.logprobs, plain.logprobs, { rtol: 0, atol: 1e-3 }));
    } finally {
      gpu.close();
      await Deno.remove(folder, { recursive: true });
    }
  });
}

Deno.test("loadDecoder() refuses NaN in a weight that would become int8, and counts int8's bytes", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const folder = await Deno.makeTempDir();
  const config = { hidden_size: 64, intermediate_size: 96, head_dim: 16 };
  const change = (name: string, values: Float32Array) => {
    if (/1\.mlp\.up_proj/.test(name)) values[70] = NaN;
  };
  const load = async (options: TinyModelOptions) => {
    await writeTinyModel(folder, { config, dtype: "BF16", ...options });
    using checkpoint = await WeightFiles.open(folder);
    const settings = { trainable: false, quantization: "int8" } as const;
    return await loadDecoder(gpu, checkpoint, await readModelConfig(folder), settings);
  };
  try {
    const { free } = await load({});
    assert.equal(gpu.memory.byName()["model.layers.1.mlp.up_proj.weight"], 96 * 64 / 32 * 36);
    free();
    await assert.rejects(load({ change }), (error) => {
      assert.ok(error instanceof InputError);
      assert.match(error.message, /up_proj.weight holds NaN or infinity at \[1, 6\]/);
      return true;
    });
    assert.equal(gpu.memory.bytes, 0);
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("frozenDtype() takes linear layers of whole blocks, and asks the file of all else", () => {
  const spec = (
    shape: readonly [number] | readonly [number, number],
    linear: boolean,
    transposed = false,
  ) => ({
    name: "w",
    shape,
    linear,
    transposed,
  });
  assert.equal(frozenDtype(spec([7, 64], true), "F32", "int8"), "int8");
  assert.equal(frozenDtype(spec([64, 7], true, true), "F16", "int8"), "int8");
  assert.equal(frozenDtype(spec([64, 7], true), "F16", "int8"), "f32");
  assert.equal(frozenDtype(spec([7, 40], true), "BF16", "int8"), "bf16");
  assert.equal(frozenDtype(spec([7, 64], false), "BF16", "int8"), "bf16");
  assert.equal(frozenDtype(spec([64], false), "F16", "int8"), "f32");
  assert.equal(frozenDtype(spec([7, 64], true), "F16", null), "f16");
  assert.equal(frozenDtype(spec([7, 64], true), "F32", null), "f32");
});
