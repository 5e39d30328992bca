/** A request for a training job, made into a job with nothing left open. */
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { objectiveOf } from "../objective/mod.ts";
import { resolveSettings, type TrainingSettings } from "../api/settings.ts";
import { turns } from "../turns.ts";
import { parseWith } from "../validation.ts";
import { type DatasetSpec, datasetSteps, finish, type Steps, stepsWithin } from "./given_rows.ts";

/** A job with nothing left open. */
export interface JobSpec {
  /** Name relative to the root, or of the hub. */
  readonly model: string;
  readonly dataset: DatasetSpec;
  readonly eval_dataset: DatasetSpec | null;
  readonly preset: string | null;
  readonly settings: TrainingSettings;
}

/**
 * Types a job and fills in its defaults.
 *
 * @throws {InputError} naming the field, its value and what would be accepted
 *
 * @example A minimal job
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseJobSpec } from "./spec.ts";
 * const { settings } = parseJobSpec({ model: "m", dataset: { path: "pairs.jsonl" } });
 * assert.deepEqual([settings.learning_rate, settings.lora?.r], [2e-5, 16]);
 * ```
 */
export function parseJobSpec(value: unknown): JobSpec {
  return toJobSpec(parseWith(JobRequestSchema, value));
}

/**
 * Fills in a request's defaults and reads the rows that came with it.
 *
 * @throws {InputError} naming the first row that cannot be used where there are too many of them
 */
export function toJobSpec(request: JobRequest): JobSpec {
  return finish(specSteps(request));
}

/**
 * The same, with others served in between: a request may bring many rows.
 *
 * @throws {InputError} as {@link toJobSpec}
 */
export async function toJobSpecInTurns(request: JobRequest): Promise<JobSpec> {
  const steps = specSteps(request);
  const pass = turns();
  for (let step = steps.next();; step = steps.next()) {
    if (step.done) return step.value;
    await pass();
  }
}

function* specSteps(request: JobRequest): Steps<JobSpec> {
  const { model, dataset, eval_dataset = null, preset = null, method } = request;
  const kind = objectiveOf(method).rows;
  const { max_left_out } = request;
  return {
    model,
    dataset: yield* stepsWithin(["dataset"], datasetSteps(dataset, kind, max_left_out)),
    eval_dataset: eval_dataset &&
      (yield* stepsWithin(["eval_dataset"], datasetSteps(eval_dataset, kind, max_left_out))),
    preset,
    settings: settingsOf(request),
  };
}

/** A request's settings, defaults filled in. */
export function settingsOf(
  { model: _model, dataset: _dataset, eval_dataset: _evalDataset, ...settings }: JobRequest,
): TrainingSettings {
  return resolveSettings(settings);
}
