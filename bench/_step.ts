import { type Gpu, Program } from "../src/gpu/mod.ts";
import type { BatchLive } from "../src/model/batch.ts";
import { DecoderPass } from "../src/model/pass.ts";
import type { PassOptions } from "../src/model/pass_buffers.ts";
import { METRIC_COLUMNS } from "../src/objective/metrics.ts";
import { type ObjectiveLive, recordObjective } from "../src/objective/objective.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { packGroups } from "../src/preference/pack.ts";
import { Optimizer } from "../src/training/optimizer.ts";
import type { BenchModel } from "./_model.ts";

/** A scoring pass or a whole optimiser step over fixed groups, ready to be run again and again. */
export interface Step {
  readonly tokens: number;
  readonly rows: number;
  /** Submits once and waits for the device. */
  run(): Promise<void>;
  free(): void;
}

const ADAMW = { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0, max_grad_norm: 1 };
const SIMPO = {
  type: "simpo",
  beta: 2,
  gamma: 1,
  loss_type: "sigmoid",
  label_smoothing: 0,
  sft_weight: 0,
} as const;

/** @param groups pairs, or for an unshared step groups of one response that follow each other as pairs would */
export function prepareStep(
  gpu: Gpu,
  model: BenchModel,
  groups: readonly EncodedGroup[],
  options: PassOptions,
): Step {
  const batch = packGroups(groups);
  const budget = { tokens: batch.tokens, rows: batch.rows, sequences: batch.sequences };
  const pass = new DecoderPass(gpu, model.decoder, budget, options);
  const program = new Program<BatchLive & ObjectiveLive>(gpu, "bench");
  pass.recordForward(program);
  const columns = METRIC_COLUMNS.length;
  const metrics = gpu.tensor("bench.metrics", [batch.sequences, columns]);
  const sums = gpu.tensor("bench.sums", [1, columns]);
  let optimizer: Optimizer | null = null;
  if (options.mode === "train") {
    const { averages, sequence_rows, coefficients } = pass;
    recordObjective(program, SIMPO, { averages, sequence_rows, coefficients, metrics, sums });
    pass.recordBackward(program);
    optimizer = new Optimizer(gpu, model.trained!.segments, ADAMW);
  }
  const examples = batch.sequences / 2;
  return {
    tokens: batch.tokens,
    rows: batch.rows,
    run: async () => {
      optimizer?.zeroGradients();
      const counts = pass.upload(batch);
      program.run({ ...counts, dropout_seed: 0, examples, step_examples: examples, step_chosen_tokens: 1 });
      optimizer?.update({ step: 1, learning_rate: 0 });
      await gpu.settle();
    },
    free: () => {
      optimizer?.free();
      program.free();
      pass.free();
      gpu.free(metrics, sums);
    },
  };
}
