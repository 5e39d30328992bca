/** A request for a training job, made into a job with nothing left open. */
import type { DatasetRequest, SourceRequest } from "../api/dataset.ts";
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { resolveSettings, type TrainingSettings } from "../api/settings.ts";
import { located, type Path } from "../errors.ts";
import { allowedFaults, RowReader, type RowsReport, tooManyLeftOut } from "../preference/row_reader.ts";
import type { Comparison, RowKind } from "../preference/rows.ts";
import { turns } from "../turns.ts";
import { parseWith } from "../validation.ts";

/** Rows by a name under the root or of the hub. */
export type NamedRows = Extract<SourceRequest, { path: string }>;

/** Rows that came with the request, as they were read. */
export interface GivenRows extends Pick<SourceRequest, "weight"> {
  readonly comparisons: readonly Comparison[];
  /** What was made of the rows; jobs of earlier versions have none. */
  readonly report?: RowsReport;
}

/** One of a job's data sets. */
export type SourceSpec = NamedRows | GivenRows;

/** A job's rows: of one data set, or of several one after another. */
export type DatasetSpec = SourceSpec | readonly SourceSpec[];

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
 * @throws InputError naming the field, its value and what would be accepted
 *
 * @example A minimal job
 * ```ts
 * import { parseJobSpec } from "./spec.ts";
 * const { settings } = parseJobSpec({ model: "m", dataset: { path: "pairs.jsonl" } });
 * console.assert(settings.learning_rate === 2e-5 && settings.lora?.r === 16);
 * ```
 */
export function parseJobSpec(value: unknown): JobSpec {
  return toJobSpec(parseWith(JobRequestSchema, value));
}

/**
 * Fills in a request's defaults and reads the rows that came with it.
 *
 * @throws InputError naming the first row that cannot be used where there are too many of them
 */
export function toJobSpec(request: JobRequest): JobSpec {
  return finish(specSteps(request));
}

/**
 * The same, with others served in between: a request may bring many rows.
 *
 * @throws InputError as {@link toJobSpec}
 */
export async function toJobSpecInTurns(request: JobRequest): Promise<JobSpec> {
  const steps = specSteps(request);
  const pass = turns();
  for (let step = steps.next();; step = steps.next()) {
    if (step.done) return step.value;
    await pass();
  }
}

/** Rows of a step: a millisecond or less. */
const STEP_ROWS = 50;

/** Work that may be left alone for a while at each step. */
type Steps<T> = Generator<void, T>;

function finish<T>(steps: Steps<T>): T {
  for (let step = steps.next();; step = steps.next()) if (step.done) return step.value;
}

function* stepsWithin<T>(path: Path, steps: Steps<T>): Steps<T> {
  try {
    return yield* steps;
  } catch (error) {
    throw located(error, path);
  }
}

function* specSteps(request: JobRequest): Steps<JobSpec> {
  const { model, dataset, eval_dataset = null, preset = null, method } = request;
  const kind = rowKind(method?.type);
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

/** Rows at fault beyond the allowed ones that are counted. */
const MOST_COUNTED = 1000;

/** A request's settings, defaults filled in. */
export function settingsOf(
  { model: _model, dataset: _dataset, eval_dataset: _evalDataset, ...settings }: JobRequest,
): TrainingSettings {
  return resolveSettings(settings);
}

/** What a method's rows are for. */
export function rowKind(method: string | undefined): RowKind {
  return method === "sft" ? "sft" : "preference";
}

/**
 * Reads rows that are given as they are.
 *
 * @param maxLeftOut share of the rows that may be left out
 * @throws InputError naming the first that cannot be used where there are more of them
 */
export function readDataset(dataset: DatasetRequest, kind: RowKind, maxLeftOut: number): DatasetSpec {
  return finish(datasetSteps(dataset, kind, maxLeftOut));
}

function* datasetSteps(dataset: DatasetRequest, kind: RowKind, maxLeftOut: number): Steps<DatasetSpec> {
  if (!Array.isArray(dataset)) return yield* sourceSteps(dataset, kind, maxLeftOut);
  const sources: SourceSpec[] = [];
  for (const [index, source] of dataset.entries()) {
    sources.push(yield* stepsWithin([index], sourceSteps(source, kind, maxLeftOut)));
  }
  return sources;
}

function* sourceSteps(source: SourceRequest, kind: RowKind, maxLeftOut: number): Steps<SourceSpec> {
  if ("path" in source) return source;
  const { rows, columns, pairs, weight, limit } = source;
  const reader = new RowReader({ kind, columns, pairs }, ({ row }) => ["rows", row - 1]);
  const taken = rows.slice(0, limit);
  const allowed = allowedFaults(taken.length, maxLeftOut);
  const comparisons: Comparison[] = [];
  for (const [i, value] of taken.entries()) {
    for (const comparison of reader.read({ row: i + 1, value })) comparisons.push(comparison);
    if (i % STEP_ROWS === STEP_ROWS - 1) yield;
    // They are not counted to the end: each fault has its sentence.
    if (reader.left_out.faults >= allowed + MOST_COUNTED) break;
  }
  const report = reader.report();
  const { firstFault, faults } = reader.left_out;
  if (firstFault !== null && (faults > allowed || comparisons.length === 0)) {
    throw tooManyLeftOut(firstFault, taken.length, report.left_out, maxLeftOut, report.rows);
  }
  return { comparisons, report, ...(weight === undefined ? {} : { weight }) };
}
