/** A job's row in the data base, and the job that it is. */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import type { DatasetSummary, Job } from "../api/job.ts";
import { isObject, show } from "../json.ts";
import { type LeftOut, MOST_ROWS } from "../preference/left_out.ts";
import type { Warnings } from "./bounds.ts";
import type { DatasetSpec, SourceSpec } from "./given_rows.ts";
import { JOB_STATUSES } from "./job.ts";
import type { JobSpec } from "./spec.ts";
import { storageError } from "./storage.ts";

/** The rows that were left out of one data set. */
export type LeftOutOfSplit = LeftOut & { readonly split: "train" | "eval" };

/** What {@link toJob} reads. */
export const JOB_COLUMNS =
  `number, id, status, spec, step, total_steps, tokens_per_second, seconds_remaining, plan, metrics, rows_read, left_out,
  warnings, bytes, cancel_requested, waiting_for, error, created_at, started_at, finished_at`;

/** What the store keeps of a job; how far it is with what comes before its steps is of no use after the process. */
export type StoredJob = Omit<Job, "loading" | "downloading">;

/** A row by its columns. */
export type Row = Readonly<Record<string, unknown>>;

/**
 * Reads rows whatever is in them: node:sqlite alone throws at a whole number past 2^53, and such a one becomes the nearest.
 *
 * @throws {StorageError} where the file is damaged or the disk cannot be read
 */
export function readRows(db: DatabaseSync, sql: string, ...values: SQLInputValue[]): Row[] {
  try {
    const statement = db.prepare(sql);
    statement.setReadBigInts(true);
    return statement.all(...values).map((row) =>
      Object.fromEntries(
        Object.entries(row).map(([name, value]) => [name, typeof value === "bigint" ? Number(value) : value]),
      )
    );
  } catch (error) {
    throw storageError(error) ?? error;
  }
}

/** A count as SQLite can keep it: one past 2^63 would be no whole number to it. */
export function whole(count: number): number {
  const most = Number.MAX_SAFE_INTEGER;
  return Math.max(-most, Math.min(Math.trunc(count) || 0, most));
}

/** A job as its row keeps it, without the rows that came in the request. */
export function summarise(spec: JobSpec) {
  const ofSource = (source: SourceSpec) =>
    "path" in source ? source : { rows: source.report?.rows ?? source.comparisons.length };
  const ofDataset = (dataset: DatasetSpec): DatasetSummary =>
    Array.isArray(dataset) ? dataset.map(ofSource) : ofSource(dataset as SourceSpec);
  const { dataset, eval_dataset, ...rest } = spec;
  return { ...rest, dataset: ofDataset(dataset), eval_dataset: eval_dataset && ofDataset(eval_dataset) };
}

/** The rows that were left out of both data sets. */
function joinSplits(splits: readonly LeftOutOfSplit[]): Job["rows_left_out"] {
  return {
    count: splits.reduce((sum, { count }) => sum + count, 0),
    reasons: splits.flatMap(({ split, reasons }) => reasons.map((reason) => ({ split, ...reason }))),
    first: splits.flatMap(({ split, first }) => first.map((row) => ({ split, ...row }))).slice(0, MOST_ROWS),
  };
}

/** A rate or time that is not known yet comes as NaN or infinity. */
export function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/**
 * The job in a row.
 *
 * @throws where the row is not as the worker wrote it
 */
export function toJob(row: Row): StoredJob {
  const { number: _, spec: _spec, left_out, step, total_steps, tokens_per_second, ...rest } = row as
    & Row
    & StoredJob["progress"];
  const spec = object(row, "spec");
  const status = row["status"];
  if (!JOB_STATUSES.some((known) => known === status)) throw unreadable("status", status);
  if (typeof spec["model"] !== "string") throw unreadable("spec.model", spec["model"]);
  if (!isObject(spec["settings"])) throw unreadable("spec.settings", spec["settings"]);
  if (!isObject(spec["dataset"]) && !Array.isArray(spec["dataset"])) {
    throw unreadable("spec.dataset", spec["dataset"]);
  }
  const { first, count } = object(row, "warnings") as unknown as Warnings;
  const fraction = status === "succeeded" ? 1 : total_steps ? Math.min(step / total_steps, 1) : 0;
  return {
    ...spec,
    ...rest,
    progress: { step, total_steps, fraction, tokens_per_second },
    plan: objectOrNull(row, "plan"),
    metrics: objectOrNull(row, "metrics"),
    rows_read: object(row, "rows_read"),
    rows_left_out: joinSplits(JSON.parse(String(left_out))),
    warnings: first,
    warning_count: count,
    cancel_requested: row["cancel_requested"] === 1,
    error: objectOrNull(row, "error"),
  } as unknown as StoredJob;
}

function objectOrNull(row: Row, column: string): Record<string, unknown> | null {
  return row[column] === null ? null : object(row, column);
}

function object(row: Row, column: string): Record<string, unknown> {
  const value = JSON.parse(String(row[column]));
  if (!isObject(value)) throw unreadable(column, value);
  return value;
}

function unreadable(column: string, value: unknown): Error {
  return new Error(`its ${column} is ${show(value)}`);
}
