import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { NonFiniteError } from "../model/non_finite.ts";
import { type Objective, summarize } from "../objective/objective.ts";
import { readRunState, restoreMoments, type RunState, writeCheckpoint } from "./checkpoint.ts";
import { pause, type TrainingHost } from "./host.ts";
import type { Data } from "./data.ts";
import { checkFinite, diverged } from "./divergence.ts";
import type { Fingerprints } from "./fingerprint.ts";
import type { RunShape } from "./memory_plan.ts";
import { MetricLog } from "./metric_log.ts";
import { MetricWindow } from "./metric_window.ts";
import { Pace } from "./pace.ts";
import { mix32 } from "./random.ts";
import { ExampleOrder, learningRate, planSchedule, type Schedule } from "./schedule.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { prepare } from "./prepare.ts";
import { ofList, TrainStep } from "./step.ts";
import type { Trainable } from "./trainable.ts";

type Metrics = Record<string, number>;

/** What a run is made of, however it is laid out in memory. */
export interface RunParts {
  readonly settings: TrainingSettings;
  /** The one of the settings' method. */
  readonly objective: Objective;
  readonly data: Data;
  readonly trainable: Trainable;
  readonly checkpoints: string;
  readonly resumed: RunState | null;
  /** What the rows and the weights are. */
  readonly fingerprints: Fingerprints;
}

/** The loop over a run's steps, with its state between them. */
export class TrainingLoop {
  /** Updates done. */
  step: number;
  readonly #shape: RunShape;
  readonly #trainStep: TrainStep;
  readonly #window: MetricWindow;
  readonly #log: MetricLog;
  readonly #pace: Pace;
  /** As {@link RunState} has them. */
  #counts: Pick<RunState, "num_tokens" | "filled">;
  /** Whether the last step's logging and evaluation are done, or under way in `#log`. */
  #logged: boolean;
  #savedStep = -1;

  /** @throws {GpuMemoryError} where its buffers do not fit */
  constructor(
    private readonly host: TrainingHost,
    { micro_batch_tokens: tokens, activation_recomputation: recompute }: RunShape,
    private readonly parts: RunParts,
  ) {
    const { gpu } = host;
    const { settings, objective, trainable, resumed } = parts;
    this.#shape = { micro_batch_tokens: tokens, activation_recomputation: recompute };
    this.#pace = new Pace(gpu);
    this.step = resumed?.step ?? 0;
    this.#counts = {
      num_tokens: resumed?.num_tokens ?? 0,
      filled: { tokens: 0, room: 0, ...resumed?.filled },
    };
    this.#logged = resumed?.logged ?? true;
    this.#log = new MetricLog((event) => host.emit(event), settings.learning_rate, resumed?.history);
    using made = new DisposableStack();
    const own = <T extends { free(): void }>(part: T): T => made.adopt(part, (part) => part.free());
    const { decoder, trained: { segments } } = trainable;
    const budget = { tokens, rows: tokens, sequences: tokens };
    const step = this.#trainStep = own(
      new TrainStep(gpu, { decoder, segments, settings, objective }, budget, { recompute }),
    );
    this.#window = own(new MetricWindow(gpu, objective, step.sums, step.optimizer!.clip));
    made.move(); // freed by free() from now on
  }

  /** Takes up where a checkpoint left off; the parameters are loaded already. */
  async restore(checkpoint: string): Promise<void> {
    const { metrics, grad_norm } = await readRunState(checkpoint);
    this.#savedStep = this.step; // before all else: a stop must not save what is restored by half
    const { segments } = this.parts.trainable.trained;
    await restoreMoments(this.host.gpu, checkpoint, segments, () => pause(this.host));
    this.#window.restore(metrics, grad_norm);
    this.#log.repeat();
  }

  /** Finds what the objective needs of the policy before its first step. @param directory the job's */
  async prepare(directory: string): Promise<void> {
    const { objective, settings: { method }, data } = this.parts;
    await prepare(objective, method, { directory, at: this.step }, data, this.#trainStep, this.#between);
  }

  /**
   * Trains from where the run stands to its last step.
   *
   * @throws {Interrupted} where it is to end early
   * @throws {InputError} where it has diverged
   */
  async steps(): Promise<void> {
    const { settings, data: { train } } = this.parts;
    const schedule = planSchedule(settings, train.length);
    const order = new ExampleOrder(settings, train.length);
    const { total_steps } = schedule;
    this.host.emit({ type: "status", status: "running", total_steps, resumed_from: this.step });
    const clock = { start: performance.now(), step: this.step, tokens: this.#counts.num_tokens };

    if (!this.#logged) await this.#finishStep(schedule);
    while (this.step < total_steps) {
      const groups = Array.from(order.ofStep(this.step), (index) => train.at(index));
      await this.#train(groups, learningRate(settings, schedule, this.step));
      await this.#finishStep(schedule);
      const seconds = (performance.now() - clock.start) / 1000;
      this.#log.tell({
        type: "progress",
        step: this.step,
        total_steps,
        tokens_per_second: (this.#counts.num_tokens - clock.tokens) / seconds,
        seconds_remaining: seconds / (this.step - clock.step) * (total_steps - this.step),
      });
    }
    await this.logged();
  }

  /** Waits until all finished steps are logged. @throws {InputError} where training has diverged */
  logged(): Promise<void> {
    return this.#log.settled();
  }

  /** Writes a checkpoint of the last finished step, unless there is one. */
  async save(): Promise<void> {
    await this.logged();
    if (this.#savedStep === this.step) return;
    const { gpu } = this.host;
    const { settings, trainable, checkpoints, resumed, fingerprints } = this.parts;
    const { learning_rate, keep_checkpoints } = settings;
    const { metrics, grad_norm } = await this.#window.save();
    const state: RunState = {
      step: this.step,
      num_tokens: this.#counts.num_tokens,
      shape: this.#shape,
      metrics,
      filled: this.#counts.filled,
      grad_norm,
      logged: this.#logged,
      history: this.#log.history,
      objective_state: resumed?.objective_state ?? {},
      fingerprints,
    };
    checkFinite({ ...metrics, grad_norm }, this.step, learning_rate);
    try {
      await writeCheckpoint(gpu, checkpoints, trainable, state, keep_checkpoints);
    } catch (error) {
      if (!(error instanceof NonFiniteError)) throw error;
      throw diverged(error.tensor, error.number, this.step, learning_rate);
    }
    this.#savedStep = this.step;
    this.host.emit({ type: "checkpoint", step: this.step });
  }

  /** Frees its buffers, not the parameters. */
  free(): void {
    this.#trainStep.free();
    this.#window.free();
  }

  async #train(groups: readonly EncodedGroup[], learning_rate: number): Promise<void> {
    const update = { step: this.step + 1, learning_rate };
    const { seed } = this.parts.settings;
    const batches = await this.#trainStep.run(ofList(groups), update, {
      dropoutSeed: (micro) => mix32(seed, this.step, micro) || 1,
      between: this.#between,
    });
    this.#window.add();
    this.step++;
    const tokens = groups.reduce((sum, group) => sum + groupTokens(group), 0);
    const { num_tokens, filled } = this.#counts;
    this.#counts = {
      num_tokens: num_tokens + tokens,
      filled: {
        tokens: filled.tokens + tokens,
        room: filled.room + batches * this.#shape.micro_batch_tokens,
      },
    };
    this.#logged = false;
  }

  /** Evaluates, logs and saves after an update, as far as they are due. */
  async #finishStep(schedule: Schedule): Promise<void> {
    const { step } = this;
    const { settings, data } = this.parts;
    const due = (every: number) => step === schedule.total_steps || (every > 0 && step % every === 0);
    await this.logged();
    // the evaluation first: it can be interrupted, and what is logged must not be read before it is done
    const evaluation = data.eval.length > 0 && due(settings.eval_steps) ? await this.#evaluate() : {};
    const training = due(settings.logging_steps) ? this.#closeWindow(schedule) : {};
    this.#log.add(step, async () => ({ ...await training, ...evaluation }));
    this.#logged = true;
    if (due(settings.save_steps)) await this.save();
  }

  /** Metrics of the steps since the last logged one. */
  async #closeWindow(schedule: Schedule): Promise<Metrics> {
    const { settings, objective } = this.parts;
    const { num_tokens, filled } = this.#counts;
    const counts = {
      learning_rate: learningRate(settings, schedule, this.step - 1),
      epoch: this.step / schedule.steps_per_epoch,
      num_tokens,
      fill_rate: filled.tokens / Math.max(filled.room, 1),
    };
    this.#counts = { num_tokens, filled: { tokens: 0, room: 0 } };
    const { sums, grad_norm } = await this.#window.close();
    return { ...summarize(objective, settings.method, sums), grad_norm, ...counts };
  }

  async #evaluate(): Promise<Metrics> {
    const metrics = await this.#trainStep.evaluate(this.parts.data.eval, { between: this.#between });
    return Object.fromEntries(Object.entries(metrics).map(([name, value]) => [`eval_${name}`, value]));
  }

  /** Lets others have the device. @throws {Interrupted} where the run is to end */
  readonly #between = (): Promise<void> => this.#pace.between(() => pause(this.host));
}
