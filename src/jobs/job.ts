/** A training job's life and events, as everyone outside of the store sees them. */
import type { Job } from "../api/job.ts";

/** Where a job is in its life; the last three are its end. */
export type JobStatus = Job["status"];

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
