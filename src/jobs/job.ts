/** A training job and its events, as everyone outside of the store sees them. */
import type { LeftOutRow, LoadProgress, MemoryPlan } from "../engine/protocol.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import type { TrainingSettings } from "../training/settings.ts";

/** Where a job is in its life; the last three are its end. */
export type JobStatus = "queued" | "running" | "succeeded" | "failed" | "cancelled";

/** Why a job failed; the fields beside the message are there where the job's own input is at fault. */
export interface JobError {
  readonly message: string;
  readonly field?: string | undefined;
  readonly value?: unknown;
  readonly accepted?: string | undefined;
}

/** A data set as a job shows it: by its name, or how many rows came with the request. */
export type DatasetSummary =
  | { readonly path: string; readonly split?: string | undefined }
  | { readonly rows: number };

/** A training job as it stands. */
export interface Job {
  readonly id: string;
  readonly status: JobStatus;
  readonly model: string;
  readonly dataset: DatasetSummary;
  readonly eval_dataset: DatasetSummary | null;
  readonly preset: string | null;
  readonly settings: TrainingSettings;
  /** How far its weights are read; null before and after. */
  readonly loading: LoadProgress | null;
  /** How far the file is that is brought from the hub for it; null before and after. */
  readonly downloading: DownloadProgress | null;
  readonly step: number;
  /** null until the rows are tokenised. */
  readonly total_steps: number | null;
  readonly tokens_per_second: number | null;
  readonly seconds_remaining: number | null;
  /** What it needs of the device's memory; null until the rows are tokenised. */
  readonly plan: MemoryPlan | null;
  /** The newest value of each metric, with the step of the newest. */
  readonly metrics: Readonly<Record<string, number>> | null;
  readonly rows_left_out: readonly (LeftOutRow & { readonly split: "train" | "eval" })[];
  readonly cancel_requested: boolean;
  readonly error: JobError | null;
  /** ISO 8601. */
  readonly created_at: string;
  readonly started_at: string | null;
  readonly finished_at: string | null;
}

/** Something that happened to a job. */
export interface JobEvent {
  /** From 1 within a job, without gaps. */
  readonly id: number;
  readonly type: "status" | "metrics" | "checkpoint" | "warning" | "done";
  readonly data: Readonly<Record<string, unknown>>;
}

/** Whether a job has come to its end. */
export function isFinished(status: JobStatus): boolean {
  return status === "succeeded" || status === "failed" || status === "cancelled";
}
