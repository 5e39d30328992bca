import { InputError } from "../errors.ts";
import { OwnedTensors, Program, type Tensor } from "../gpu/mod.ts";
import { recordCopy } from "../gpu/ops/elementwise.ts";
import type { BatchLive } from "../model/batch.ts";
import { DecoderPass } from "../model/pass.ts";
import { NonFiniteError } from "../model/non_finite.ts";
import { METRIC_COLUMNS, metricBuffers } from "../objective/metrics.ts";
import {
  type ObjectiveLive,
  recordMetricSums,
  recordObjective,
  responsesPerExample,
  summarizeMetrics,
} from "../objective/objective.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { fillWithSizes, groupTokens, packGroups } from "../preference/pack.ts";
import { readRunState, restoreMoments, type RunState, writeCheckpoint } from "./checkpoint.ts";
import { pause, type TrainContext } from "./context.ts";
import type { Data } from "./data.ts";
import type { Fingerprints } from "./fingerprint.ts";
import type { RunShape } from "./memory_plan.ts";
import { Optimizer } from "./optimizer.ts";
import { Pace } from "./pace.ts";
import { mix32 } from "./random.ts";
import { ExampleOrder, learningRate, planSchedule, type Schedule } from "./schedule.ts";
import type { TrainingSettings } from "../api/settings.ts";
import type { Groups } from "./token_file.ts";
import type { Trainable } from "./trainable.ts";

type Metrics = Record<string, number>;

type StepLive = BatchLive & ObjectiveLive;

/** What a run is made of, however it is laid out in memory. */
export interface RunParts {
  readonly settings: TrainingSettings;
  readonly data: Data;
  readonly trainable: Trainable;
  readonly checkpoints: string;
  readonly resumed: RunState | null;
  /** What the rows and the weights are. */
  readonly fingerprints: Fingerprints;
}

/** The state of a run between its steps. */
export class Run {
  /** Updates done. */
  step = 0;
  readonly #context: TrainContext;
  readonly #settings: TrainingSettings;
  readonly #data: Data;
  readonly #shape: RunShape;
  readonly #trainable: Trainable;
  readonly #checkpoints: string;
  readonly #fingerprints: Fingerprints;
  readonly #objectiveState: RunState["objective_state"];
  readonly #history: { step: number; metrics: Metrics }[];
  readonly #pass: DecoderPass;
  readonly #optimizer: Optimizer;
  readonly #metrics: Tensor;
  /** Metrics of the step or evaluation under way; an interrupted step is done over, so they are kept apart. */
  readonly #stepSums: Tensor;
  /** Metrics of the finished steps since the last logged one. */
  readonly #windowSums: Tensor;
  /** What is being logged: the window's sums and AdamW's clip, apart from the step that follows meanwhile. */
  readonly #logSums: Tensor;
  readonly #logClip: Tensor;
  readonly #commit: Program;
  readonly #closeWindow: Program;
  readonly #trainProgram: Program<StepLive>;
  readonly #evalProgram: Program<StepLive>;
  readonly #owned: DisposableStack;
  readonly #pace: Pace;
  #numTokens: number;
  /** As {@link RunState} has it. */
  #filled: { tokens: number; room: number };
  /** Whether the last step's logging and evaluation are done, or under way in `#logging`. */
  #logged: boolean;
  #logging: Promise<void> = Promise.resolve();
  #savedStep = -1;

  /** @throws {GpuMemoryError} where its buffers do not fit */
  constructor(
    context: TrainContext,
    { micro_batch_tokens: budget, activation_recomputation: recompute }: RunShape,
    { settings, data, trainable, checkpoints, resumed, fingerprints }: RunParts,
  ) {
    const { gpu } = context;
    this.#shape = { micro_batch_tokens: budget, activation_recomputation: recompute };
    this.#context = context;
    this.#pace = new Pace(gpu);
    this.#settings = settings;
    this.#data = data;
    this.#trainable = trainable;
    this.#checkpoints = checkpoints;
    this.#fingerprints = fingerprints;
    this.#objectiveState = resumed?.objective_state ?? {};
    this.#history = [...resumed?.history ?? []];
    this.#numTokens = resumed?.num_tokens ?? 0;
    this.#filled = { tokens: 0, room: 0, ...resumed?.filled };
    this.step = resumed?.step ?? 0;
    this.#logged = resumed?.logged ?? true;
    const budgets = { tokens: budget, rows: budget, sequences: budget };
    using made = new DisposableStack();
    const own = <T extends { free(): void }>(part: T): T => made.adopt(part, (part) => part.free());
    this.#pass = own(new DecoderPass(gpu, trainable.decoder, budgets, { mode: "train", recompute }));
    const sums = metricBuffers(own(new OwnedTensors(gpu)), budget);
    this.#metrics = sums.metrics;
    this.#stepSums = sums.step;
    this.#windowSums = sums.window;
    this.#logSums = sums.logged;
    this.#logClip = sums.logged_clip;
    this.#optimizer = own(new Optimizer(gpu, trainable.trained.segments, settings));

    const { averages, sequence_rows, coefficients } = this.#pass;
    const objective = { averages, sequence_rows, coefficients, metrics: this.#metrics, sums: this.#stepSums };
    this.#trainProgram = own(new Program(gpu, "train"));
    this.#evalProgram = own(new Program(gpu, "evaluate"));
    for (const program of [this.#trainProgram, this.#evalProgram]) {
      this.#pass.recordForward(program);
      recordObjective(program, settings.method, objective);
    }
    this.#pass.recordBackward(this.#trainProgram);
    this.#commit = own(new Program(gpu, "commit_metrics"));
    recordMetricSums(this.#commit, { x: this.#stepSums, sums: this.#windowSums }, () => 1);
    this.#closeWindow = own(new Program(gpu, "close_window"));
    recordCopy(this.#closeWindow, this.#windowSums, this.#logSums, () => METRIC_COLUMNS.length);
    recordCopy(this.#closeWindow, this.#optimizer.clip, this.#logClip, () => 2);
    this.#closeWindow.clear(this.#windowSums);
    this.#owned = made.move();
  }

  /** Takes up where a checkpoint left off; the parameters are loaded already. */
  async restore(checkpoint: string): Promise<void> {
    const { gpu, emit } = this.#context;
    const { metrics, grad_norm, history } = await readRunState(checkpoint);
    this.#savedStep = this.step; // before all else: a stop must not save what is restored by half
    await restoreMoments(gpu, checkpoint, this.#trainable.trained.segments, () => pause(this.#context));
    gpu.write(this.#windowSums, Float32Array.from(METRIC_COLUMNS, (name) => metrics[name] ?? 0));
    gpu.write(this.#optimizer.clip, Float32Array.of(1, grad_norm));
    for (const { step, metrics } of history) emit({ type: "metrics", step, metrics });
  }

  /**
   * Trains from where the run stands to its last step.
   *
   * @throws {Interrupted} where it is to end early
   * @throws {InputError} where it has diverged
   */
  async steps(): Promise<void> {
    const { emit } = this.#context;
    const settings = this.#settings;
    const schedule = planSchedule(settings, this.#data.train.length);
    const order = new ExampleOrder(settings, this.#data.train.length);
    const { total_steps } = schedule;
    emit({ type: "status", status: "running", total_steps, resumed_from: this.step });
    const clock = { start: performance.now(), step: this.step, tokens: this.#numTokens };

    if (!this.#logged) await this.#finishStep(schedule);
    while (this.step < total_steps) {
      const groups = Array.from(order.ofStep(this.step), (index) => this.#data.train.at(index));
      await this.#trainStep(groups, learningRate(settings, schedule, this.step));
      await this.#finishStep(schedule);
      const seconds = (performance.now() - clock.start) / 1000;
      const progress = {
        step: this.step,
        total_steps,
        tokens_per_second: (this.#numTokens - clock.tokens) / seconds,
        seconds_remaining: seconds / (this.step - clock.step) * (total_steps - this.step),
      };
      this.#log(() => emit({ type: "progress", ...progress }));
    }
    await this.logged();
  }

  /** Gathers the gradient of one step's examples over as many micro-batches as it takes, then updates. */
  async #trainStep(groups: readonly EncodedGroup[], rate: number): Promise<void> {
    this.#optimizer.zeroGradients();
    const batches = await this.#batches(ofList(groups), this.#trainProgram, true);
    this.#optimizer.update({ step: this.step + 1, learning_rate: rate });
    this.#commit.run({});
    this.step++;
    const tokens = groups.reduce((sum, group) => sum + groupTokens(group), 0);
    this.#numTokens += tokens;
    this.#filled.tokens += tokens;
    this.#filled.room += batches * this.#shape.micro_batch_tokens;
    this.#logged = false;
  }

  /** Evaluates, logs and saves after an update, as far as they are due. */
  async #finishStep(schedule: Schedule): Promise<void> {
    const { step } = this;
    const settings = this.#settings;
    const due = (every: number) => step === schedule.total_steps || (every > 0 && step % every === 0);
    await this.logged();
    // the evaluation first: it can be interrupted, and what is logged must not be read before it is done
    const evaluation = this.#data.eval.length > 0 && due(settings.eval_steps) ? await this.#evaluate() : {};
    const training = due(settings.logging_steps) ? this.#windowMetrics(schedule) : {};
    this.#log(async () => {
      const metrics = { ...await training, ...evaluation };
      if (Object.keys(metrics).length === 0) return;
      this.#checkFinite(metrics);
      this.#history.push({ step, metrics });
      this.#context.emit({ type: "metrics", step, metrics });
    });
    this.#logged = true;
    if (due(settings.save_steps)) await this.save();
  }

  /** Logs after what is being logged, while the next step is under way. */
  #log(work: () => void | Promise<void>): void {
    this.#logging = this.#logging.then(work);
    this.#logging.catch(() => {}); // whoever awaits it next hears of it
  }

  /** Waits until all finished steps are logged. @throws where training has diverged */
  async logged(): Promise<void> {
    await this.#logging;
  }

  /** Writes a checkpoint of the last finished step, unless there is one. */
  async save(): Promise<void> {
    await this.logged();
    if (this.#savedStep === this.step) return;
    const { gpu, emit } = this.#context;
    const [window, clip] = await gpu.read(this.#windowSums, this.#optimizer.clip) as [
      Float32Array,
      Float32Array,
    ];
    const metrics = Object.fromEntries(METRIC_COLUMNS.map((name, i) => [name, window[i]!]));
    const state: RunState = {
      step: this.step,
      num_tokens: this.#numTokens,
      shape: this.#shape,
      metrics,
      filled: this.#filled,
      grad_norm: clip[1]!,
      logged: this.#logged,
      history: this.#history,
      objective_state: this.#objectiveState,
      fingerprints: this.#fingerprints,
    };
    this.#checkFinite({ ...metrics, grad_norm: clip[1]! });
    try {
      await writeCheckpoint(gpu, this.#checkpoints, this.#trainable, state, this.#settings.keep_checkpoints);
    } catch (error) {
      throw error instanceof NonFiniteError ? this.#diverged(error.tensor, error.number) : error;
    }
    this.#savedStep = this.step;
    emit({ type: "checkpoint", step: this.step });
  }

  /** Lets go of its buffers, not of the parameters. */
  free(): void {
    this.#owned.dispose();
  }

  /** Runs a program over groups as micro-batches. @returns how many it took */
  async #batches(
    groups: Groups,
    program: Program<StepLive>,
    dropout: boolean,
  ): Promise<number> {
    const { method, seed } = this.#settings;
    this.#context.gpu.write(this.#stepSums, new Float32Array(METRIC_COLUMNS.length));
    const responses = responsesPerExample(method);
    const numbers = Array.from({ length: groups.length }, (_, index) => index);
    const chosenTokens = numbers.reduce((sum, index) => sum + scoredTokens(groups.at(index), 0), 0);
    const sizes = numbers.map((index) => groups.tokens(index));
    const batches = fillWithSizes(sizes, this.#shape.micro_batch_tokens);
    const pack = (batch: readonly number[] = []) => packGroups(batch.map((index) => groups.at(index)));
    let next = pack(batches[0]);
    for (const micro of batches.keys()) {
      const packed = next;
      const live = this.#pass.upload(packed);
      program.run({
        ...live,
        dropout_seed: dropout ? mix32(seed, this.step, micro) || 1 : 0,
        examples: packed.sequences / responses,
        step_examples: groups.length,
        step_chosen_tokens: chosenTokens,
      });
      next = pack(batches[micro + 1]); // while the device computes
      await this.#pace.between(() => pause(this.#context));
    }
    return batches.length;
  }

  /** Closes the window of steps since the last logged one. @throws where training has diverged */
  async #windowMetrics(schedule: Schedule): Promise<Metrics> {
    const settings = this.#settings;
    const { step } = this;
    const counts = {
      learning_rate: learningRate(settings, schedule, step - 1),
      epoch: step / schedule.steps_per_epoch,
      num_tokens: this.#numTokens,
      fill_rate: this.#filled.tokens / Math.max(this.#filled.room, 1),
    };
    this.#filled = { tokens: 0, room: 0 };
    this.#closeWindow.run({});
    const [sums, clip] = await this.#context.gpu.read(this.#logSums, this.#logClip) as [
      Float32Array,
      Float32Array,
    ];
    const metrics = { ...summarizeMetrics(settings.method, sums), grad_norm: clip[1]!, ...counts };
    return metrics;
  }

  /** @throws {InputError} at the first metric that is not finite */
  #checkFinite(metrics: Metrics): void {
    const bad = Object.entries(metrics).find(([, value]) => !Number.isFinite(value));
    if (!bad) return;
    const [name, value] = bad;
    if (this.step > 1 || name.startsWith("eval_")) throw this.#diverged(name, value);
    // A step's own metrics are of the weights before its update: no learning rate has had a part in the first.
    throw new InputError(
      `${name} at step 1 is ${value} before anything was learned: the weights that the run begins with make numbers too ` +
        "large for f32.",
      { path: ["model"], accepted: "a model, and an adapter, whose activations and gradients are finite" },
    );
  }

  /** The error of a run whose tensor or metric is not finite. */
  #diverged(name: string, value: number): InputError {
    const { learning_rate } = this.#settings;
    return new InputError(`Training diverged: ${name} at step ${this.step} is ${value}.`, {
      path: ["learning_rate"],
      value: learning_rate,
      accepted: "a lower learning rate, or max_grad_norm above 0",
    });
  }

  async #evaluate(): Promise<Metrics> {
    await this.#batches(this.#data.eval, this.#evalProgram, false);
    const metrics = summarizeMetrics(this.#settings.method, await this.#context.gpu.readF32(this.#stepSums));
    return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
  }
}

/** Groups that are in memory. */
function ofList(groups: readonly EncodedGroup[]): Groups {
  return {
    length: groups.length,
    at: (index) => groups[index]!,
    tokens: (index) => groupTokens(groups[index]!),
  };
}

function scoredTokens(group: EncodedGroup, response: number): number {
  const { tokens, scored_from } = group.responses[response]!;
  return tokens.length - scored_from;
}
