/** Rows that come with a request, read as they come. */
import type { DatasetRequest, SourceRequest } from "../api/dataset.ts";
import { located, type Path } from "../errors.ts";
import { allowedFaults, RowReader, type RowsReport, tooManyLeftOut } from "../preference/row_reader.ts";
import type { Comparison, RowKind } from "../preference/rows.ts";

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

/** Rows at fault beyond the allowed ones that are counted. */
const MOST_COUNTED = 1000;

/** Rows of a step: a millisecond or less. */
const STEP_ROWS = 50;

/** Work that may be left alone for a while at each step. */
export type Steps<T> = Generator<void, T>;

/** Does all of it at once. */
export function finish<T>(steps: Steps<T>): T {
  for (let step = steps.next();; step = steps.next()) if (step.done) return step.value;
}

/** As `within`. */
export function* stepsWithin<T>(path: Path, steps: Steps<T>): Steps<T> {
  try {
    return yield* steps;
  } catch (error) {
    throw located(error, path);
  }
}

/**
 * Reads rows that are given as they are.
 *
 * @param maxLeftOut share of the rows that may be left out
 * @throws {InputError} naming the first that cannot be used where there are more of them
 */
export function readDataset(dataset: DatasetRequest, kind: RowKind, maxLeftOut: number): DatasetSpec {
  return finish(datasetSteps(dataset, kind, maxLeftOut));
}

/** The same in steps. */
export function* datasetSteps(
  dataset: DatasetRequest,
  kind: RowKind,
  maxLeftOut: number,
): Steps<DatasetSpec> {
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
