import assert from "node:assert/strict";
import { Gpu, type MatmulDesign, Program } from "../../src/gpu/mod.ts";
import { type ModelConfig, parseModelConfig } from "../../src/model/config.ts";
import { loadDecoder, type LoadedDecoder } from "../../src/model/decoder.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { type BatchLive, DecoderPass } from "../../src/model/pass.ts";
import { alignSharing, ropeAttentionFactor, ropeFrequencies } from "../../src/model/rope.ts";
import { Checkpoint, writeSafetensors } from "../../src/model/safetensors.ts";
import { METRIC_COLUMNS } from "../../src/objective/metrics.ts";
import { type ObjectiveLive, recordObjective } from "../../src/objective/objective.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { packGroups } from "../../src/preference/pack.ts";
import { assertClose } from "../helpers/assert_close.ts";
import {
  type Family,
  familyFolder,
  readFamily,
  readFamilyGradients,
  readRopeCases,
} from "../reference/families.ts";

/** Families that the decoder has; the others of the reference values are refused. */
const SUPPORTED: readonly Family[] = [
  "mistral",
  "qwen2",
  "qwen2_window",
  "qwen3",
  "gemma2",
  "gemma3_text",
  "phi3",
  "phi3_window",
  "phi3_longrope",
  "phi3_partial",
  "llama_linear",
  "llama_dynamic",
  "llama_llama3",
  "llama_yarn",
];
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
  for (const [name, expected] of gradients) {
    const gradient = await gpu.readF32(trained!.get(name).gradient!);
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

for (const family of SUPPORTED) {
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
      for (const family of ["qwen3", "gemma2", "phi3"] as const) await checkTraining(gpu, family, false);
    } finally {
      gpu.close();
    }
  });
}

Deno.test("loadDecoder() gives the same log-probs from f16 and bf16 files of the same values", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const folder = await Deno.makeTempDir();
  try {
    for (const family of ["qwen2", "gemma3_text", "phi3_window"] as const) {
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
