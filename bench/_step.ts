import { type Gpu, PaperDevice, Program, type TimedDispatch } from "../src/gpu/mod.ts";
import { DecoderPass } from "../src/model/pass.ts";
import { passLayers, type PassOptions } from "../src/model/pass_layers.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { type PackedBatch, packGroups } from "../src/preference/pack.ts";
import type { Optimizer } from "../src/training/optimizer.ts";
import { type StepLive, TrainStep } from "../src/training/step.ts";
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

const UPDATE = { step: 1, learning_rate: 0 };
const SETTINGS = {
  method: { type: "simpo", beta: 2, gamma: 1, loss_type: "sigmoid", label_smoothing: 0, sft_weight: 0 },
  ...{ adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0, max_grad_norm: 1 },
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
  const paper = new PaperDevice(Infinity);
  passLayers(paper, model.decoder, budget, options);
  const { program, optimizer, upload, free } = train
    ? trainingParts(gpu, model, batch, options)
    : scoringParts(gpu, model, batch, options);
  const submissions = [
    () => optimizer?.zeroGradients(),
    () => program.run(upload()),
    () => optimizer?.update(UPDATE),
  ];
  const submit = () => submissions.forEach((submission) => submission());
  return {
    tokens: batch.tokens,
    rows: batch.rows,
    bytes: paper.memory.bytes,
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
    free,
  };
}

const NOTHING_TRAINED = { dropout_seed: 0, examples: 0, step_examples: 0, step_chosen_tokens: 0 };

/** What a step submits in turn. */
interface Parts {
  readonly program: Program<StepLive>;
  readonly optimizer: Optimizer | null;
  readonly upload: () => StepLive;
  readonly free: () => void;
}

function trainingParts(gpu: Gpu, model: BenchModel, batch: PackedBatch, options: PassOptions): Parts {
  const { decoder, trained } = model;
  const step = new TrainStep(
    gpu,
    { decoder, segments: trained!.segments, settings: SETTINGS },
    batch,
    options,
  );
  const weights = { step_examples: batch.sequences / 2, step_chosen_tokens: 1 };
  return {
    program: step.training,
    optimizer: step.optimizer,
    upload: () => step.upload(batch, weights),
    free: () => step.free(),
  };
}

function scoringParts(gpu: Gpu, { decoder }: BenchModel, batch: PackedBatch, options: PassOptions): Parts {
  const pass = new DecoderPass(gpu, decoder, batch, options);
  const program = new Program<StepLive>(gpu, "bench");
  pass.recordForward(program);
  return {
    program,
    optimizer: null,
    upload: () => ({ ...pass.upload(batch), ...NOTHING_TRAINED }),
    free: () => {
      program.free();
      pass.free();
    },
  };
}
