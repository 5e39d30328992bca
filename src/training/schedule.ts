import { Random } from "./random.ts";
import type { TrainingSettings } from "../api/settings.ts";

/** Optimiser steps of a run and where each gets its rows from. */
export interface Schedule {
  readonly total_steps: number;
  readonly steps_per_epoch: number;
  readonly warmup_steps: number;
}

/**
 * How many steps a run takes; the last batch of an epoch may be smaller, as in transformers.
 *
 * @example Two epochs
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseJobSpec } from "../jobs/spec.ts";
 * import { planSchedule } from "./schedule.ts";
 * const job = { model: "m", dataset: { path: "pairs.jsonl" }, batch_size: 4, num_train_epochs: 2 };
 * const { total_steps, steps_per_epoch } = planSchedule(parseJobSpec(job).settings, 10);
 * assert.deepEqual([total_steps, steps_per_epoch], [6, 3]);
 * ```
 */
export function planSchedule(settings: TrainingSettings, examples: number): Schedule {
  const steps_per_epoch = Math.ceil(examples / settings.batch_size);
  const total_steps = settings.max_steps ??
    Math.max(1, Math.ceil(settings.num_train_epochs * steps_per_epoch));
  // A single step of warm-up would have rate 0 and train nothing.
  const warmup_steps = total_steps === 1 ? 0 : Math.ceil(total_steps * settings.warmup_ratio);
  return { total_steps, steps_per_epoch, warmup_steps };
}

/**
 * Learning rate of an update, as transformers' schedulers have it: the first update of a warm-up has rate 0.
 *
 * @param step updates already done, from 0
 */
export function learningRate(
  settings: TrainingSettings,
  { total_steps, warmup_steps }: Schedule,
  step: number,
): number {
  const { learning_rate, lr_scheduler_type: type } = settings;
  if (type === "constant") return learning_rate;
  if (step < warmup_steps) return learning_rate * step / Math.max(1, warmup_steps);
  if (type === "constant_with_warmup") return learning_rate;
  const progress = (step - warmup_steps) / Math.max(1, total_steps - warmup_steps);
  if (type === "linear") return learning_rate * Math.max(0, 1 - progress);
  return learning_rate * Math.max(0, 0.5 * (1 + Math.cos(Math.PI * progress)));
}

/** Gives each step its examples: every epoch has its own order, which depends on the seed and the epoch alone. */
export class ExampleOrder {
  #epoch = -1;
  #order = new Uint32Array();

  constructor(private readonly settings: TrainingSettings, private readonly examples: number) {}

  /** Indices of the examples of a step, from 0. */
  ofStep(step: number): Uint32Array {
    const { batch_size, seed } = this.settings;
    const perEpoch = Math.ceil(this.examples / batch_size);
    const epoch = Math.floor(step / perEpoch);
    if (epoch !== this.#epoch) {
      this.#order = new Random(seed, epoch).permutation(this.examples) as Uint32Array<ArrayBuffer>;
      this.#epoch = epoch;
    }
    const first = (step % perEpoch) * batch_size;
    return this.#order.subarray(first, first + batch_size);
  }
}
