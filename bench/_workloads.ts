/** The models and steps that benchmarks and profiles share. */
import type { Gpu } from "../src/gpu/mod.ts";
import type { PassOptions } from "../src/model/pass_layers.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
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

export const LORA = { lora: 16 } as const;

/** The model whose steps are measured on this device. */
export function sizesFor(gpu: Gpu): Sizes {
  return gpu.software ? SIZES : GPU_SIZES;
}

/** Pairs of a 512-token prompt and two 128-token responses. */
export function pairs(count: number): EncodedGroup[] {
  return randomGroups(count, 512, [128, 128], 4096);
}

/** One 512-token prompt with candidates of 64 tokens. */
export function candidates(count: number): EncodedGroup[] {
  return randomGroups(1, 512, new Array(count).fill(64), 4096);
}

/** A step with the model under it. */
export interface MeasuredStep {
  readonly step: Step;
  readonly model: BenchModel;
  free(): void;
}

/** The steps that are measured and profiled, by what they are. */
export const STEPS: Readonly<Record<string, (gpu: Gpu) => Promise<MeasuredStep>>> = {
  // keys and values for every head: on the small model 38.5 GFLOP
  "training step, all weights, 4 pairs of 128-token responses": (gpu) => {
    const sizes = sizesFor(gpu);
    const skeleton = { ...sizes, num_key_value_heads: sizes.num_attention_heads };
    return measuredStep(gpu, skeleton, "weights", randomGroups(4, 1, [128, 128], 4096), { mode: "train" });
  },
  "training step, LoRA r 16, 2 pairs of a 512-token prompt and 128-token responses": (gpu) =>
    measuredStep(gpu, sizesFor(gpu), LORA, pairs(2), { mode: "train" }),
  "scoring batch, 16 candidates of 64 tokens under one 512-token prompt": (gpu) =>
    measuredStep(gpu, sizesFor(gpu), "nothing", candidates(16), { mode: "score" }),
};

export async function measuredStep(
  gpu: Gpu,
  sizes: Sizes,
  trained: Trained,
  groups: readonly EncodedGroup[],
  options: PassOptions,
): Promise<MeasuredStep> {
  const model = await randomModel(gpu, sizes, trained);
  const step = prepareStep(gpu, model, groups, options);
  return {
    step,
    model,
    free: () => {
      step.free();
      model.free();
    },
  };
}
