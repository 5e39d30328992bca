import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { Gpu, type MatmulDesign } from "../../src/gpu/mod.ts";
import { parseModelConfig } from "../../src/model/config.ts";
import { loadDecoder, type LoadedDecoder } from "../../src/model/loading.ts";
import { weightSpecs } from "../../src/model/modules.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { ropeAttentionFactor, ropeFrequencies } from "../../src/model/rope.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { transpose } from "../../src/model/weights.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { encodedGroup, scoreGroups, SIMPO, trainingStep } from "../helpers/decoder_step.ts";
import {
  FAMILIES,
  type Family,
  familyFolder,
  readFamily,
  readFamilyGradients,
  readRopeCases,
} from "../reference/families.ts";
import { variant } from "../helpers/tier.ts";

const SPELLINGS = ["config.json", "config_transformers4.json"] as const;

async function readConfig(family: Family, file: typeof SPELLINGS[number]) {
  return parseModelConfig(JSON.parse(await Deno.readTextFile(`${familyFolder(family)}/${file}`)));
}

async function load(
  gpu: Gpu,
  family: Family,
  trainable: boolean,
  folder = familyFolder(family),
): Promise<LoadedDecoder> {
  using checkpoint = await WeightFiles.open(folder);
  return await loadDecoder(gpu, checkpoint, await readConfig(family, "config.json"), { trainable });
}

/** Per-token log-probs, loss and gradients of the reference pairs. */
async function checkTraining(gpu: Gpu, family: Family, recompute: boolean): Promise<void> {
  const { pairs, full } = await readFamily(family);
  const { decoder, trained, free } = await load(gpu, family, true);
  const groups = pairs.map(({ prompt, chosen, rejected }) => encodedGroup(prompt, [chosen, rejected]));
  const { beta, gamma, loss } = full.losses.sigmoid;
  const { logprobs, metrics, gradients } = await trainingStep(gpu, { decoder, trained: trained! }, [groups], {
    options: { recompute },
    method: { ...SIMPO, beta, gamma },
  });
  free();
  assertClose(logprobs, full.token_logprobs.flat(), { rtol: 0, atol: 1e-4, name: `${family} log-probs` });
  assertClose([metrics.loss!], [loss], { rtol: 1e-4, name: `${family} loss` });
  const expected = await readFamilyGradients(family);
  assert.deepEqual([...gradients.keys()].sort(), [...expected.keys()].sort());
  const specs = new Map(weightSpecs(decoder.config).map((spec) => [spec.name, spec]));
  for (const [name, inFile] of expected) {
    const { shape, transposed } = specs.get(name)!;
    const values = transposed ? transpose(inFile, shape[1]!) : inFile;
    assertClose(gradients.get(name)!, values, { rtol: 1e-4, name: `${family} ${name}` });
  }
}

/** Four candidates under one prompt, scored with the weights in `folder`. */
async function checkScoring(gpu: Gpu, family: Family, folder = familyFolder(family)): Promise<void> {
  const { prompt, responses, token_logprobs } = (await readFamily(family)).candidates;
  const { decoder, free } = await load(gpu, family, false, folder);
  const { logprobs } = await scoreGroups(gpu, decoder, [encodedGroup(prompt, responses)]);
  free();
  assertClose(logprobs, token_logprobs.flat(), { rtol: 0, atol: 1e-4, name: `${family} candidates` });
}

for (const family of FAMILIES) {
  Deno.test(`DecoderPass computes ${family} as transformers does: log-probs, loss, gradients, candidates`, async () => {
    const gpu = await Gpu.open({ device: "auto" });
    try {
      for (const recompute of [false, true]) await checkTraining(gpu, family, recompute);
      await checkScoring(gpu, family);
    } finally {
      gpu.close();
    }
  });

  Deno.test(`parseModelConfig() reads ${family} alike in transformers 4's and 5's spelling`, async () => {
    assert.deepEqual(await readConfig(family, SPELLINGS[0]), await readConfig(family, SPELLINGS[1]));
  });
}

for (const design of ["direct", "tiled"] satisfies MatmulDesign[]) {
  const test = variant(false);
  test(`DecoderPass computes families with the ${design} matmul design`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
    try {
      for (const family of ["qwen3", "gemma2", "phi3", "gpt2", "olmo2", "granite"] as const) {
        await checkTraining(gpu, family, false);
      }
    } finally {
      gpu.close();
    }
  });
}

Deno.test("loadDecoder() gives the same log-probs from f16 and bf16 files of the same values", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const folder = await Deno.makeTempDir();
  try {
    for (const family of ["qwen2", "gemma3_text", "phi3_window", "gpt2"] as const) {
      using checkpoint = await WeightFiles.open(familyFolder(family));
      for (const dtype of ["F16", "BF16"] as const) {
        const tensors = await Promise.all(
          checkpoint.names().map(async (name) => ({
            name,
            dtype,
            shape: checkpoint.info(name).shape,
            data: fromF32(await checkpoint.readF32(name), dtype),
          })),
        );
        await writeSafetensors(`${folder}/model.safetensors`, tensors);
        await checkScoring(gpu, family, folder);
      }
    }
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("loadDecoder() reads GPT-2 as the hub has it: bare names beside attention's masks", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const folder = await Deno.makeTempDir();
  try {
    using checkpoint = await WeightFiles.open(familyFolder("gpt2"));
    const tensors = await Promise.all(
      checkpoint.names().map(async (name) => ({
        name: name.replace("transformer.", ""),
        dtype: "F32" as const,
        shape: checkpoint.info(name).shape,
        data: await checkpoint.read(name),
      })),
    );
    const masks = ["h.0.attn.bias", "h.0.attn.masked_bias"].map((name) => ({
      name,
      dtype: "F32" as const,
      shape: [1],
      data: new Uint8Array(4),
    }));
    await writeSafetensors(`${folder}/model.safetensors`, [...tensors, ...masks]);
    await checkScoring(gpu, "gpt2", folder);
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("loadDecoder() says where a transposed weight is not finite, as its file has it", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const folder = await Deno.makeTempDir();
  const broken = "transformer.h.1.mlp.c_fc.weight";
  try {
    using checkpoint = await WeightFiles.open(familyFolder("gpt2"));
    const tensors = await Promise.all(
      checkpoint.names().map(async (name) => {
        const values = await checkpoint.readF32(name);
        const { shape } = checkpoint.info(name);
        if (name === broken) values[3 * shape[1]! + 40] = Infinity;
        return { name, dtype: "F32" as const, shape, data: fromF32(values, "F32") };
      }),
    );
    await writeSafetensors(`${folder}/model.safetensors`, tensors);
    await assert.rejects(load(gpu, "gpt2", false, folder), {
      name: "InputError",
      message: `The weight ${broken} holds NaN or infinity at [3, 40].`,
    });
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("parseModelConfig() fills in GPT-2's defaults", () => {
  const config = parseModelConfig({
    model_type: "gpt2",
    vocab_size: 50257,
    n_embd: 768,
    n_head: 12,
    n_layer: 12,
    n_inner: null,
  });
  assert.equal(config.intermediate_size, 3072);
  assert.equal(config.max_position_embeddings, 1024);
  assert.equal(config.context_length, 1024);
  assert.equal(config.rms_norm_eps, 1e-5);
  assert.equal(config.tie_word_embeddings, true);
});

for (
  const [field, value] of [
    ["activation_function", "relu"],
    ["activation_function", "gelu"],
    ["scale_attn_weights", false],
    ["scale_attn_by_inverse_layer_idx", true],
    ["add_cross_attention", true],
    ["n_embd", 31],
    ["n_inner", 0],
    ["n_head", undefined],
    ["n_positions", 0],
    ["layer_norm_epsilon", -1],
  ] as const
) {
  Deno.test(`parseModelConfig() refuses GPT-2 with ${field} ${value}`, async () => {
    const json = JSON.parse(await Deno.readTextFile(`${familyFolder("gpt2")}/config.json`));
    assert.throws(() => parseModelConfig({ ...json, [field]: value }), (error) => {
      assert.ok(error instanceof InputError, `${error}`);
      assert.equal(error.field, `config.json: ${field}`);
      return true;
    });
  });
}

Deno.test("ropeFrequencies() gives transformers' angles at published sizes and for every option", async () => {
  let checked = 0;
  for (const { config, rotary } of await readRopeCases()) {
    const parsed = parseModelConfig(config);
    for (const { layer_type, length, frequencies, attention_factor } of rotary) {
      const rope = parsed.plan
        .ropes[layer_type === "sliding_attention" ? parsed.plan.ropes.length - 1 : 0]!;
      assertClose(ropeFrequencies(rope, length ?? 1), frequencies, {
        rtol: 1e-6,
        relativeTo: "element",
        name: JSON.stringify(config),
      });
      assertClose([ropeAttentionFactor(rope)], [attention_factor], { rtol: 1e-6 });
      checked++;
    }
  }
  assert.ok(checked >= 8, `${checked} checked`);
});
