import type { Gpu } from "../src/gpu/mod.ts";
import { unsharedGroups } from "../src/preference/pack.ts";
import { randomGroups, randomModel, SIZES } from "./_model.ts";
import { alternate, type BenchRow, median, medianRatio } from "./_rows.ts";
import { prepareStep } from "./_step.ts";

const ROUNDS = 5;

/** Scoring and training speed, what shared prompts save, and what a training step takes of memory. */
export async function benchSteps(gpu: Gpu): Promise<BenchRow[]> {
  const model = await randomModel(gpu, SIZES, { lora: 16 });
  const vocabulary = SIZES.vocab_size;
  const rows: BenchRow[] = [];
  const millions = (model.parameters / 1e6).toFixed(1);

  // the skeleton of a training step: 4 pairs of 2 responses of 128 tokens
  const pairs = randomGroups(4, 64, [64, 64], vocabulary);
  const bytesBefore = gpu.memory.bytes;
  gpu.memory.resetPeak();
  const train = prepareStep(gpu, model, pairs, { mode: "train" });
  const stepBytes = gpu.memory.bytes - bytesBefore;
  const score = prepareStep(gpu, model, pairs, { mode: "score" });
  const beforeRecompute = gpu.memory.bytes;
  const recompute = prepareStep(gpu, model, pairs, { mode: "train", recompute: true });
  const recomputeBytes = gpu.memory.bytes - beforeRecompute;
  const speed = await alternate(ROUNDS, { train: train.run, score: score.run, recompute: recompute.run });
  const detail =
    `random Llama of ${millions} M parameters, ${train.tokens} tokens a batch, median of ${ROUNDS}`;
  const perSecond = (times: readonly number[]) => train.tokens / median(times) * 1000;
  rows.push(
    { name: "training, LoRA r 16", value: perSecond(speed.train), unit: "tokens/s", detail },
    {
      name: "training, LoRA r 16, recomputing activations",
      value: perSecond(speed.recompute),
      unit: "tokens/s",
      detail,
    },
    { name: "scoring", value: perSecond(speed.score), unit: "tokens/s", detail },
    {
      name: "buffers of a training step",
      value: stepBytes / 2 ** 20,
      unit: "MiB",
      detail: "beside weights and optimiser",
    },
    {
      name: "the same, recomputing activations",
      value: recomputeBytes / 2 ** 20,
      unit: "MiB",
      detail: "beside weights and optimiser",
    },
  );
  for (const step of [train, score, recompute]) step.free();

  for (const mode of ["train", "score"] as const) {
    const groups = randomGroups(2, 256, [32, 32], vocabulary);
    const shared = prepareStep(gpu, model, groups, { mode });
    const unshared = prepareStep(gpu, model, groups.flatMap(unsharedGroups), { mode });
    const times = await alternate(ROUNDS, { shared: shared.run, unshared: unshared.run });
    rows.push({
      name: `${mode === "train" ? "training" : "scoring"}, prompts shared over unshared`,
      value: medianRatio(times.shared, times.unshared),
      unit: "ratio of time",
      target: { at_most: 0.7 },
      detail: `pairs of a 256-token prompt and two 32-token responses, ${ROUNDS} alternating rounds`,
    });
    shared.free();
    unshared.free();
  }
  model.free();
  rows.push(await headBytes(gpu));
  return rows;
}

/** Bytes of the head beside its weights at two vocabularies. */
async function headBytes(gpu: Gpu): Promise<BenchRow> {
  const bytes: number[] = [];
  for (const vocab_size of [8192, 65536]) {
    const model = await randomModel(gpu, { ...SIZES, num_hidden_layers: 1, hidden_size: 64, vocab_size }, {
      lora: 16,
    });
    const before = gpu.memory.bytes;
    const step = prepareStep(gpu, model, randomGroups(8, 64, [64, 64], 1000), { mode: "train" });
    bytes.push(
      gpu.memory.bytes - before - Object.entries(gpu.memory.byName())
        .filter(([name]) => name.endsWith(".params")).reduce((sum, [, size]) => sum + size, 0),
    );
    step.free();
    model.free();
  }
  return {
    name: "buffers of a step at vocabulary 65,536 over 8,192",
    value: bytes[1]! / bytes[0]!,
    unit: "ratio of bytes",
    target: { at_most: 1 },
    detail: "beside the weights",
  };
}
