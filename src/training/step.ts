/** One optimiser step: forward, loss and backward over its micro-batches, then the update. */
import { type Gpu, OwnedTensors, Program, type Tensor, type TensorSource } from "../gpu/mod.ts";
import type { BatchLive, Budget } from "../model/batch.ts";
import type { Decoder } from "../model/decoder.ts";
import type { ParameterSegment } from "../model/parameters.ts";
import { DecoderPass } from "../model/pass.ts";
import type { PassOptions } from "../model/pass_buffers.ts";
import { type Method, objectiveOf, summarizeMetrics } from "../objective/mod.ts";
import type { Objective, ObjectiveLive } from "../objective/objective.ts";
import { fillWithSizes, type PackedBatch, packGroups } from "../preference/pack.ts";
import { recordMetricSums } from "./metric_sums.ts";
import { type AdamwSettings, Optimizer, type UpdateLive } from "./optimizer.ts";
import type { Groups } from "./token_file.ts";

/** Live numbers of a micro-batch. */
export type StepLive = BatchLive & ObjectiveLive;

/** What a step's examples weigh in its loss, over all its micro-batches. */
export type StepWeights = Pick<StepLive, "step_examples" | "step_chosen_tokens">;

/** What a step is made of. */
export interface StepParts {
  readonly decoder: Decoder;
  /** What is updated; a step without has gradients alone. */
  readonly segments?: readonly ParameterSegment[];
  readonly settings: AdamwSettings & { readonly method: Method };
  /** The method's own unless given (tests). */
  readonly objective?: Objective;
}

/** How a step's micro-batches are run. */
export interface MicroBatchOptions {
  /** By the micro-batch's number; 0: nothing is dropped. */
  readonly dropoutSeed?: (micro: number) => number;
  /** Awaited once a micro-batch is queued. What it throws ends the step. */
  readonly between?: () => Promise<void>;
}

/** What a step gathers of its examples beside the gradients. */
export interface StepBuffers {
  /** [examples, columns]: the micro-batch's. */
  readonly metrics: Tensor;
  /** [1, columns]: the step's. */
  readonly step: Tensor;
}

/** @param examples the most of a micro-batch */
export function stepBuffers(source: TensorSource, { columns }: Objective, examples: number): StepBuffers {
  return {
    metrics: source.tensor("objective.metrics", [examples, columns.length]),
    step: source.tensor("objective.step_sums", [1, columns.length]),
  };
}

/** The programs of a step with their buffers, recorded once for a budget. */
export class TrainStep {
  readonly pass: DecoderPass;
  /** [1, columns]: sums of the metrics of the step or evaluation under way, apart from those of finished steps. */
  readonly sums: Tensor;
  /** Null where the step has no segments. */
  readonly optimizer: Optimizer | null;
  /** Forward, loss and backward of a micro-batch. */
  readonly training: Program<StepLive>;
  /** Forward and loss of a micro-batch. */
  readonly evaluation: Program<StepLive>;
  readonly #gpu: Gpu;
  readonly #method: Method;
  readonly #objective: Objective;
  readonly #owned: DisposableStack;

  /** @throws {GpuMemoryError} where its buffers do not fit */
  constructor(
    gpu: Gpu,
    { decoder, segments, settings, objective = objectiveOf(settings.method) }: StepParts,
    budget: Budget,
    options: Omit<PassOptions, "mode"> = {},
  ) {
    this.#gpu = gpu;
    this.#method = settings.method;
    this.#objective = objective;
    using made = new DisposableStack();
    const own = <T extends { free(): void }>(part: T): T => made.adopt(part, (part) => part.free());
    const pass = this.pass = own(new DecoderPass(gpu, decoder, budget, { mode: "train", ...options }));
    const { metrics, step } = stepBuffers(own(new OwnedTensors(gpu)), objective, budget.sequences);
    this.sums = step;
    this.training = own(new Program(gpu, "train"));
    this.evaluation = own(new Program(gpu, "evaluate"));
    const { averages, sequence_rows, coefficients } = pass;
    for (const program of [this.training, this.evaluation]) {
      pass.recordForward(program);
      objective.record(program, settings.method, { averages, sequence_rows, coefficients, metrics });
      recordMetricSums(program, { x: metrics, sums: step }, (live) => live.examples);
    }
    pass.recordBackward(this.training);
    this.optimizer = segments === undefined ? null : own(new Optimizer(gpu, segments, settings));
    this.#owned = made.move();
  }

  /**
   * Trains on the examples of a step.
   *
   * @param gathered awaited between the last gradient and the update
   * @returns how many micro-batches it took
   */
  async run(
    groups: Groups,
    update: UpdateLive,
    options: MicroBatchOptions,
    gathered: () => Promise<void> = () => Promise.resolve(),
  ): Promise<number> {
    this.optimizer!.zeroGradients();
    const batches = await this.#batches(this.training, groups, options);
    await gathered();
    this.optimizer!.update(update);
    return batches;
  }

  /** Metrics of examples by the weights as they are. */
  async evaluate(groups: Groups, options: MicroBatchOptions): Promise<Record<string, number>> {
    await this.#batches(this.evaluation, groups, options);
    return await this.metrics();
  }

  /** Metrics of the last step or evaluation. */
  async metrics(): Promise<Record<string, number>> {
    return summarizeMetrics(this.#method, await this.#gpu.readF32(this.sums));
  }

  /** Uploads a micro-batch. @returns the live numbers that it is run with */
  upload(batch: PackedBatch, weights: StepWeights, dropout_seed = 0): StepLive {
    const examples = batch.sequences / this.#objective.responses;
    return { ...this.pass.upload(batch), ...weights, examples, dropout_seed };
  }

  /** Zeroes the sums of metrics, before the first micro-batch. */
  zeroSums(): void {
    this.#gpu.write(this.sums, new Float32Array(this.#objective.columns.length));
  }

  /** Frees its buffers, not the parameters. */
  free(): void {
    this.#owned.dispose();
  }

  async #batches(
    program: Program<StepLive>,
    groups: Groups,
    { dropoutSeed, between }: MicroBatchOptions,
  ): Promise<number> {
    this.zeroSums();
    const numbers = Array.from({ length: groups.length }, (_, index) => index);
    const weights = {
      step_examples: groups.length,
      step_chosen_tokens: numbers.reduce((sum, index) => sum + chosenTokens(groups, index), 0),
    };
    const sizes = numbers.map((index) => groups.tokens(index));
    const batches = fillWithSizes(sizes, this.pass.budget.tokens);
    const pack = (batch: readonly number[] = []) => packGroups(batch.map((index) => groups.at(index)));
    let next = pack(batches[0]);
    for (const micro of batches.keys()) {
      program.run(this.upload(next, weights, dropoutSeed?.(micro)));
      next = pack(batches[micro + 1]); // while the device computes
      await between?.();
    }
    return batches.length;
  }
}

/** Scored tokens of an example's first response. */
function chosenTokens(groups: Groups, index: number): number {
  const { tokens, scored_from } = groups.at(index).responses[0]!;
  return tokens.length - scored_from;
}
