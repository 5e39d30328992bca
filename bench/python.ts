import type { Gpu } from "../src/gpu/mod.ts";
import { type BenchRow, type Findings, median, type Settings } from "./_rows.ts";
import { contest, submitContender } from "./_contest.ts";
import { pythonSteps } from "./_python.ts";
import { prepareProduct } from "./matmul.ts";
import { candidates, LORA, measuredStep, pairs, sizesFor } from "./_workloads.ts";

/** The worker beside PyTorch, transformers and TRL on the CPU; nothing without `--python`. */
export async function benchPython(gpu: Gpu, settings: Settings): Promise<Findings> {
  const { python, rounds } = settings;
  if (!python) return { rows: [] };
  const sizes = sizesFor(gpu);
  const product = prepareProduct(gpu, "NN", 1024, 1024, 1024);
  const scoring = await measuredStep(gpu, sizes, "nothing", candidates(16), { mode: "score" });
  const training = await measuredStep(gpu, sizes, LORA, pairs(2), { mode: "train" });
  const ours = await contest(settings, {
    matmul: product,
    scoring: submitContender(gpu, scoring.step.submit),
    training: submitContender(gpu, training.step.submit),
  });
  for (const { free } of [product, scoring, training]) free();
  const theirs = await pythonSteps(python, sizes, rounds);
  const what = {
    matmul: "matmul 1024^3",
    scoring: "scoring 16 candidates of 64 tokens under a 512-token prompt",
    training: "training step, 2 pairs of a 512-token prompt and 128-token responses, LoRA r 16, SimPO",
  };
  const rows: BenchRow[] = (["matmul", "scoring", "training"] as const).flatMap((name) => [
    { name: `${what[name]}, worker`, value: median(ours[name]), unit: "ms", detail: `median of ${rounds}` },
    {
      name: `${what[name]}, PyTorch on the CPU`,
      value: theirs[name],
      unit: "ms",
      detail: `torch, transformers, peft, TRL's CPOTrainer; f32, median of ${rounds}`,
    },
  ]);
  return { rows };
}
