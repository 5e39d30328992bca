/** A request for a training job, made into a job with nothing left open. */
import type { DatasetRequest } from "../api/dataset.ts";
import { type JobRequest, JobRequestSchema } from "../api/job.ts";
import { resolveSettings, type TrainingSettings } from "../api/settings.ts";
import { within } from "../errors.ts";
import { type Comparison, parseRow, type RowKind } from "../preference/rows.ts";
import { parseWith } from "../validation.ts";

/** Rows by a name under the root or of the hub, or those that came with the request. */
export type DatasetSpec =
  | Extract<DatasetRequest, { path: string }>
  | { readonly comparisons: readonly Comparison[] };

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
 * @throws InputError naming the first row that is none of the method's shapes
 */
export function toJobSpec(request: JobRequest): JobSpec {
  const { model, dataset, eval_dataset = null, preset = null, method } = request;
  const kind = rowKind(method?.type);
  return {
    model,
    dataset: within(["dataset"], () => readDataset(dataset, kind)),
    eval_dataset: eval_dataset && within(["eval_dataset"], () => readDataset(eval_dataset, kind)),
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

/** What a method's rows are for. */
export function rowKind(method: string | undefined): RowKind {
  return method === "sft" ? "sft" : "preference";
}

/** Reads rows that are given as they are. @throws InputError naming the first that is none of its kind's shapes */
export function readDataset(dataset: DatasetRequest, kind: RowKind): DatasetSpec {
  if ("path" in dataset) return dataset;
  const read = (row: unknown, i: number) => within(["rows", i], () => parseRow(row, i + 1, kind));
  return { comparisons: dataset.rows.map(read) };
}
