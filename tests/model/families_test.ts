import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { Gpu, type MatmulDesign, Program } from "../../src/gpu/mod.ts";
import { type ModelConfig, parseModelConfig } from "../../src/model/config.ts";
import { loadDecoder, type LoadedDecoder } from "../../src/model/loading.ts";
import { weightSpecs } from "../../src/model/modules.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import type { BatchLive } from "../../src/model/batch.ts";
import { DecoderPass } from "../../src/model/pass.ts";
import { alignSharing, ropeAttentionFactor, ropeFrequencies } from "../../src/model/rope.ts";
import { Checkpoint, writeSafetensors } from "../../src/model/safetensors.ts";
import { transpose } from "../../src/model/weights.ts";
import { METRIC_COLUMNS } from "../../src/objective/metrics.ts";
import { type ObjectiveLive, recordObjective } from "../../src/objective/objective.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { packGroups } from "../../src/preference/pack.ts";
import { assertClose } from "../helpers/assert_close.ts";
import {
  FAMILIES,
  type Family,
  familyFolder,
  readFamily,
  readFamilyGradients,
  readRopeCases,
} from "../reference/families.ts";

const SPELLINGS = ["config.json", "config_transformers4.json"] as const;

/** A prompt with its responses; by itself where their lengths turn it differently. */
function group(
  { traits }: ModelConfig,
  row: number,
  prompt: readonly number[],
  responses: readonly (readonly number[])[],
): EncodedGroup {
  return alignSharing(traits.ropes, {
    row,
    prompt: Uint32Array.from(prompt),
    responses: responses.map((tokens) => ({
      tokens: Uint32Array.from(tokens),
      scored_from: 0,
      truncated: false,
    })),
    prompt_truncated: 0,
  });
}

async function readConfig(family: Family, file: typeof SPELLINGS[number]) {
  return parseModelConfig(JSON.parse(await Deno.readTextFile(`${familyFolder(family)}/${file}`)));
}

async function load(
  gpu: Gpu,
  family: Family,
  trainable: boolean,
  folder = familyFolder(family),
): Promise<LoadedDecoder> {
  using checkpoint = await Checkpoint.open(folder);
  return await loadDecoder(gpu, checkpoint, await readConfig(family, "config.json"), { trainable });
}

/** Per-token log-probs, loss and gradients of the reference pairs. */
async function checkTraining(gpu: Gpu, family: Family, recompute: boolean): Promise<void> {
  const reference = await readFamily(family);
  const { decoder, trained, free } = await load(gpu, family, true);
  const groups = reference.pairs.map(({ prompt, chosen, rejected }, i) =>
    group(decoder.config, i, prompt, [chosen, rejected])
  );
  const batch = packGroups(groups);
  const pass = new DecoderPass(gpu, decoder, batch, { mode: "train", recompute });
  const columns = METRIC_COLUMNS.length;
  const metrics = gpu.tensor("metrics", [batch.sequences, columns]);
  const sums = gpu.tensor("sums", [1, columns]);
  const program = new Program<BatchLive & ObjectiveLive>(gpu, family);
  const { averages, sequence_rows, coefficients } = pass;
  const { beta, gamma, loss } = reference.full.losses.sigmoid;
  pass.recordForward(program);
  recordObjective(
    program,
    { type: "simpo", beta, gamma, loss_type: "sigmoid", label_smoothing: 0, sft_weight: 0 },
    { averages, sequence_rows, coefficients, metrics, sums },
  );
  pass.recordBackward(program);
  const examples = groups.length;
  const counts = pass.upload(batch);
  program.run({ ...counts, dropout_seed: 0, examples, step_examples: examples, step_chosen_tokens: 1 });

  const logprobs = reference.full.token_logprobs.flat();
  assertClose(await gpu.readF32(pass.logprobs), logprobs, {
    rtol: 0,
    atol: 1e-4,
    name: `${family} log-probs`,
  });
  assertClose([(await gpu.readF32(sums))[0]! / examples], [loss], { rtol: 1e-4, name: `${family} loss` });
  const gradients = await readFamilyGradients(family);
  assert.deepEqual([...trained!.parameters.keys()].sort(), [...gradients.keys()].sort());
  const specs = new Map(weightSpecs(decoder.config).map((spec) => [spec.name, spec]));
  for (const [name, inFile] of gradients) {
    const gradient = await gpu.readF32(trained!.get(name).gradient!);
    const { shape, transposed } = specs.get(name)!;
    const expected = transposed ? transpose(inFile, shape[1]!) : inFile;
    assertClose(gradient, expected, { rtol: 1e-4, relativeTo: "tensor", name: `${family} ${name}` });
  }
  program.free();
  pass.free();
  gpu.free(metrics, sums);
  free();
}

/** Four candidates under one prompt, scored with the weights in `folder`. */
async function checkScoring(gpu: Gpu, family: Family, folder = familyFolder(family)): Promise<void> {
  const { candidates } = await readFamily(family);
  const { decoder, free } = await load(gpu, family, false, folder);
  const batch = packGroups([group(decoder.config, 0, candidates.prompt, candidates.responses)]);
  const pass = new DecoderPass(gpu, decoder, batch, { mode: "score" });
  const program = new Program<BatchLive>(gpu, family);
  pass.recordForward(program);
  program.run({ ...pass.upload(batch), dropout_seed: 0 });
  const expected = candidates.token_logprobs.flat();
  assertClose(await gpu.readF32(pass.logprobs), expected, {
    rtol: 0,
    atol: 1e-4,
    name: `${family} candidates`,
  });
  program.free();
  pass.free();
  free();
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
  Deno.test(`DecoderPass computes families with the ${design} matmul design`, async () => {
    const gpu = await Gpu.open({ device: "auto", matmul: design });
    try {
      for (const family of ["qwen3", "gemma2", "phi3", "gpt2"] as const) {
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
      using checkpoint = await Checkpoint.open(familyFolder(family));
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
    using checkpoint = await Checkpoint.open(familyFolder("gpt2"));
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
    using checkpoint = await Checkpoint.open(familyFolder("gpt2"));
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
      assert.equal(error.problem.field, `config.json: ${field}`);
      return true;
    });
  });
}

Deno.test("ropeFrequencies() gives transformers' angles at published sizes and for every option", async () => {
  let checked = 0;
  for (const { config, rotary } of await readRopeCases()) {
    const parsed = parseModelConfig(config);
    for (const { layer_type, length, frequencies, attention_factor } of rotary) {
      const rope = parsed.traits
        .ropes[layer_type === "sliding_attention" ? parsed.traits.ropes.length - 1 : 0]!;
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
