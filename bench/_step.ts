import { type Gpu, Program, type TimedDispatch } from "../src/gpu/mod.ts";
import type { BatchLive } from "../src/model/batch.ts";
import { DecoderPass } from "../src/model/pass.ts";
import type { PassOptions } from "../src/model/pass_buffers.ts";
import { METRIC_COLUMNS } from "../src/objective/metrics.ts";
import { type ObjectiveLive, recordObjective } from "../src/objective/objective.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { packGroups } from "../src/preference/pack.ts";
import { Optimizer } from "../src/training/optimizer.ts";
import { matmulFlops, modelFlops } from "./_flops.ts";
import type { BenchModel } from "./_model.ts";

/** A scoring pass or a whole optimiser step over fixed groups, ready to be run again and again. */
export interface Step {
  readonly tokens: number;
  readonly rows: number;
  /** Bytes of the pass's buffers: activations, gradients of activations, the batch; no weights, no optimiser. */
  readonly bytes: number;
  /** FLOPs of one run by the model's equations. */
  readonly model_flops: number;
  /** FLOPs of the matrix products that one run dispatches. */
  readonly matmul_flops: number;
  /** Submits one run. */
  submit(): void;
  /** Does one run. @returns milliseconds that the host took for it, packing included, without waits for the device */
  host(): Promise<number>;
  /** Submits one run and waits for the device. */
  run(): Promise<void>;
  /** Runs once with a timestamp around every dispatch. */
  profile(): Promise<TimedDispatch[]>;
  free(): void;
}

const ADAMW = { adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0, max_grad_norm: 1 };
const UPDATE = { step: 1, learning_rate: 0 };
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
  const train = options.mode === "train";
  const before = gpu.memory.bytes;
  const pass = new DecoderPass(gpu, model.decoder, budget, options);
  const bytes = gpu.memory.bytes - before;
  const program = new Program<BatchLive & ObjectiveLive>(gpu, "bench");
  pass.recordForward(program);
  const columns = METRIC_COLUMNS.length;
  const metrics = gpu.tensor("bench.metrics", [batch.sequences, columns]);
  const sums = gpu.tensor("bench.sums", [1, columns]);
  let optimizer: Optimizer | null = null;
  if (train) {
    const { averages, sequence_rows, coefficients } = pass;
    recordObjective(program, SIMPO, { averages, sequence_rows, coefficients, metrics, sums });
    pass.recordBackward(program);
    optimizer = new Optimizer(gpu, model.trained!.segments, ADAMW);
  }
  const examples = batch.sequences / 2;
  const upload = () => ({
    ...pass.upload(batch),
    ...{ dropout_seed: 0, examples, step_examples: examples, step_chosen_tokens: 1 },
  });
  const submissions = [
    () => optimizer?.zeroGradients(),
    () => program.run(upload()),
    () => optimizer?.update(UPDATE),
  ];
  const submit = () => submissions.forEach((submission) => submission());
  return {
    tokens: batch.tokens,
    rows: batch.rows,
    bytes,
    model_flops: modelFlops(
      model.config,
      batch,
      train ? "forward and backward" : "forward",
      model.what,
    ),
    matmul_flops: program.dispatches(upload()).reduce((sum, dispatch) => sum + matmulFlops(dispatch), 0),
    submit,
    run: async () => {
      submit();
      await gpu.settle();
    },
    host: async () => {
      let start = performance.now();
      packGroups(groups);
      let host = performance.now() - start;
      for (const submission of submissions) {
        await gpu.settle(); // the software driver holds up a submit until it has done the one before
        start = performance.now();
        submission();
        host += performance.now() - start;
      }
      return host;
    },
    profile: async () => {
      optimizer?.zeroGradients();
      const dispatches = await program.profile(upload());
      return optimizer ? [...dispatches, ...await optimizer.profile(UPDATE)] : dispatches;
    },
    free: () => {
      optimizer?.free();
      program.free();
      pass.free();
      gpu.free(metrics, sums);
    },
  };
}
