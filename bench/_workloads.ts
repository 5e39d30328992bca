/** The steps that benchmarks and profiles share. */
import type { Gpu } from "../src/gpu/mod.ts";
import { type BenchModel, randomGroups, randomModel, SIZES, type Sizes, type Trained } from "./_model.ts";
import { prepareStep, type Step } from "./_step.ts";

/** A GPU needs more than the small model's work to be busy: 110 M parameters. */
const GPU_SIZES: Sizes = {
  hidden_size: 768,
  intermediate_size: 2048,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  num_key_value_heads: 4,
  vocab_size: 32_000,
};

/** The model whose steps are measured on this device. */
export function sizesFor(gpu: Gpu): Sizes {
  return gpu.software ? SIZES : GPU_SIZES;
}

/** A step with the model under it. */
export interface MeasuredStep {
  readonly name: string;
  make(): Promise<{ readonly step: Step; readonly model: BenchModel; free(): void }>;
}

/** Keys and values for every head, all weights trained, 1,024 scored tokens: 38.5 GFLOP on the small model. */
export function skeletonStep(gpu: Gpu): MeasuredStep {
  const sizes = sizesFor(gpu);
  const skeleton = { ...sizes, num_key_value_heads: sizes.num_attention_heads };
  return measured(gpu, "training step, all weights, 4 pairs of 128-token responses", skeleton, "weights", [
    4,
    1,
    [128, 128],
  ]);
}

/** Pairs as preference data has them, LoRA. */
export function pairStep(gpu: Gpu): MeasuredStep {
  const name = "training step, LoRA r 16, 2 pairs of a 512-token prompt and 128-token responses";
  return measured(gpu, name, sizesFor(gpu), { lora: 16 }, [2, 512, [128, 128]]);
}

/** A whole batch of /score. */
export function scoreStep(gpu: Gpu): MeasuredStep {
  const name = "scoring batch, 16 candidates of 64 tokens under one 512-token prompt";
  return measured(gpu, name, sizesFor(gpu), "nothing", [1, 512, new Array(16).fill(64)]);
}

export function measuredSteps(gpu: Gpu): MeasuredStep[] {
  return [skeletonStep(gpu), pairStep(gpu), scoreStep(gpu)];
}

function measured(
  gpu: Gpu,
  name: string,
  sizes: Sizes,
  trained: Trained,
  [groups, prompt, responses]: [number, number, number[]],
): MeasuredStep {
  return {
    name,
    make: async () => {
      const model = await randomModel(gpu, sizes, trained);
      const step = prepareStep(gpu, model, randomGroups(groups, prompt, responses, sizes.vocab_size), {
        mode: trained === "nothing" ? "score" : "train",
      });
      return {
        step,
        model,
        free: () => {
          step.free();
          model.free();
        },
      };
    },
  };
}
