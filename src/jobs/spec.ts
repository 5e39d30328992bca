/** A request for a training job, made into a job with nothing left open. */
import type { DatasetRequest, SourceRequest } from "../api/dataset.ts";
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { resolveSettings, type TrainingSettings } from "../api/settings.ts";
import { within } from "../errors.ts";
import { allowedFaults, RowReader, type RowsReport, tooManyLeftOut } from "../preference/row_reader.ts";
import type { Comparison, RowKind } from "../preference/rows.ts";
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
  const { model, dataset, eval_dataset = null, preset = null, method } = request;
  const kind = rowKind(method?.type);
  const { max_left_out } = request;
  return {
    model,
    dataset: within(["dataset"], () => readDataset(dataset, kind, max_left_out)),
    eval_dataset: eval_dataset &&
      within(["eval_dataset"], () => readDataset(eval_dataset, kind, max_left_out)),
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
  if (!Array.isArray(dataset)) return readSource(dataset, kind, maxLeftOut);
  return dataset.map((source, index) => within([index], () => readSource(source, kind, maxLeftOut)));
}

function readSource(source: SourceRequest, kind: RowKind, maxLeftOut: number): SourceSpec {
  if ("path" in source) return source;
  const { rows, columns, pairs, weight, limit } = source;
  const reader = new RowReader({ kind, columns, pairs }, ({ row }) => ["rows", row - 1]);
  const taken = rows.slice(0, limit);
  const allowed = allowedFaults(taken.length, maxLeftOut);
  const comparisons: Comparison[] = [];
  for (const [i, value] of taken.entries()) {
    for (const comparison of reader.read({ row: i + 1, value })) comparisons.push(comparison);
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
