/** One optimiser step: forward, loss and backward over its micro-batches, then the update. */
import { type Gpu, OwnedTensors, Program, type Tensor, type TensorSource } from "../gpu/mod.ts";
import type { BatchLive, Budget } from "../model/batch.ts";
import type { Decoder } from "../model/decoder.ts";
import type { ParameterSegment } from "../model/parameters.ts";
import { DecoderPass } from "../model/pass.ts";
import type { PassOptions } from "../model/pass_layers.ts";
import { type Method, objectiveOf } from "../objective/mod.ts";
import { type Objective, type ObjectiveLive, summarize } from "../objective/objective.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { fillWithSizes, groupTokens, type PackedBatch, packGroups } from "../preference/pack.ts";
import { recordSumRows } from "../gpu/ops/sum_rows.ts";
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
  /** [sequences, numbers]: what the objective has prepared of the micro-batch's responses; null where it prepares nothing. */
  readonly numbers: Tensor | null;
  /** [size]: null where the objective has no statistic. */
  readonly statistic: Tensor | null;
}

/** @param sequences the most of a micro-batch */
export function stepBuffers(
  source: TensorSource,
  { columns, prepare, statistic }: Objective,
  sequences: number,
): StepBuffers {
  return {
    metrics: source.tensor("objective.metrics", [sequences, columns.length]),
    step: source.tensor("objective.step_sums", [1, columns.length]),
    numbers: prepare ? source.tensor("objective.numbers", [sequences, prepare.numbers.length]) : null,
    statistic: statistic ? source.tensor("objective.statistic", [statistic.size]) : null,
  };
}

/** The programs of a step with their buffers, recorded once for a budget. */
export class TrainStep {
  readonly pass: DecoderPass;
  /** Null where the step has no segments. */
  readonly optimizer: Optimizer | null;
  /** Forward, loss and backward of a micro-batch. */
  readonly training: Program<StepLive>;
  /** Forward and loss of a micro-batch. */
  readonly evaluation: Program<StepLive>;
  /** Forward and what the objective prepares; null where it prepares nothing. */
  readonly #preparation: Program<StepLive> | null = null;
  /** Forward and what the objective gathers of the whole step; null where it gathers nothing. */
  readonly #statistic: Program<StepLive> | null = null;
  readonly #gpu: Gpu;
  readonly #method: Method;
  readonly #objective: Objective;
  readonly #buffers: StepBuffers;
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
    const pass = this.pass = own(
      new DecoderPass(gpu, decoder, budget, {
        ...options,
        mode: "train",
        ...{ coefficients: objective.coefficients ?? "sequence", collisions: objective.collisions ?? false },
      }),
    );
    const { metrics, step, numbers, statistic } = this.#buffers = stepBuffers(
      own(new OwnedTensors(gpu)),
      objective,
      budget.sequences,
    );
    const { logprobs, averages, collisions, sequence_rows, coefficients } = pass;
    const policy = { logprobs, averages, collisions, sequence_rows };
    const tensors = { ...policy, coefficients, metrics, numbers, statistic };
    const forward = (label: string) => {
      const program = own(new Program<StepLive>(gpu, label));
      pass.recordForward(program);
      return program;
    };
    this.training = forward("train");
    this.evaluation = forward("evaluate");
    for (const program of [this.training, this.evaluation]) {
      objective.record(program, settings.method, tensors);
      recordSumRows(program, { x: metrics, sums: step }, { rows: (live) => live.examples });
    }
    pass.recordBackward(this.training);
    if (objective.prepare) {
      this.#preparation = forward("prepare");
      objective.prepare.record(this.#preparation, settings.method, { ...tensors, numbers: numbers! });
    }
    if (objective.statistic) {
      this.#statistic = forward("gather");
      objective.statistic.record(this.#statistic, settings.method, tensors);
    }
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
    { dropoutSeed, between }: MicroBatchOptions,
    gathered: () => Promise<void> = () => Promise.resolve(),
  ): Promise<number> {
    await this.#gather(groups, between);
    this.optimizer!.zeroGradients();
    const batches = await this.#batches(this.training, groups, between, dropoutSeed);
    await gathered();
    this.optimizer!.update(update);
    return batches;
  }

  /** Metrics of examples by the weights as they are. */
  async evaluate(groups: Groups, { between }: MicroBatchOptions): Promise<Record<string, number>> {
    await this.#gather(groups, between);
    await this.#batches(this.evaluation, groups, between);
    return await this.metrics();
  }

  /** [1, columns]: sums of the metrics of the step or evaluation under way, apart from those of finished steps. */
  get sums(): Tensor {
    return this.#buffers.step;
  }

  /** What the objective prepares of groups by the weights as they are: [groups, responses, numbers]. */
  async prepare(groups: Groups, { between }: MicroBatchOptions): Promise<Float32Array<ArrayBuffer>> {
    const width = this.#objective.responses * this.#objective.prepare!.numbers.length;
    const found = new Float32Array(groups.length * width);
    const take = async (batch: readonly number[]) => {
      const numbers = await this.#gpu.readF32(this.#buffers.numbers!);
      batch.forEach((index, i) => found.set(numbers.subarray(i * width, (i + 1) * width), index * width));
      await between?.();
    };
    await this.#batches(this.#preparation!, groups, take);
    return found;
  }

  /** Metrics of the last step or evaluation. */
  async metrics(): Promise<Record<string, number>> {
    return summarize(this.#objective, this.#method, await this.#gpu.readF32(this.sums));
  }

  /** Uploads a micro-batch. @returns the live numbers that it is run with */
  upload(batch: PackedBatch, weights: StepWeights, dropout_seed = 0): StepLive {
    const numbers = batch.sequence_info.flatMap(({ numbers }) => [...numbers ?? []]);
    if (numbers.length > 0) this.#gpu.write(this.#buffers.numbers!, Float32Array.from(numbers));
    const { responses, scoresPrompt } = this.#objective;
    const examples = batch.sequences / (responses + (scoresPrompt ? 1 : 0));
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

  /** Runs the policy over a step before its loss, where the objective asks for it. */
  async #gather(groups: Groups, between: MicroBatchOptions["between"]): Promise<void> {
    const { statistic } = this.#objective;
    if (!statistic) return;
    this.#gpu.write(this.#buffers.statistic!, new Float32Array(statistic.size));
    const own = Array.from({ length: groups.length }, (_, index) => groups.at(index));
    await this.#batches(this.#statistic!, statistic.groups ? ofList(statistic.groups(own)) : groups, between);
  }

  /**
   * Runs a program over groups as micro-batches.
   *
   * @param between awaited once one is queued, with the numbers of its groups
   * @returns how many it took
   */
  async #batches(
    program: Program<StepLive>,
    groups: Groups,
    between?: (batch: readonly number[]) => Promise<void>,
    dropoutSeed?: MicroBatchOptions["dropoutSeed"],
  ): Promise<number> {
    this.zeroSums();
    const numbers = Array.from({ length: groups.length }, (_, index) => index);
    const weights = {
      step_examples: groups.length,
      step_chosen_tokens: numbers.reduce((sum, index) => sum + chosenTokens(groups, index), 0),
    };
    const sizes = numbers.map((index) => groups.tokens(index));
    const batches = fillWithSizes(sizes, this.pass.budget.tokens);
    const pack = (batch: readonly number[] = []) =>
      packGroups(batch.map((index) => groups.at(index)), [], this.#objective.scoresPrompt);
    let next = pack(batches[0]);
    for (const [micro, batch] of batches.entries()) {
      program.run(this.upload(next, weights, dropoutSeed?.(micro)));
      next = pack(batches[micro + 1]); // while the device computes
      await between?.(batch);
    }
    return batches.length;
  }
}

/** Groups that are in memory. */
export function ofList(groups: readonly EncodedGroup[]): Groups {
  return {
    length: groups.length,
    at: (index) => groups[index]!,
    tokens: (index) => groupTokens(groups[index]!),
  };
}

/** Scored tokens of an example's first response. */
function chosenTokens(groups: Groups, index: number): number {
  const { tokens, scored_from } = groups.at(index).responses[0]!;
  return tokens.length - scored_from;
}
