/** A training job's life and events, as everyone outside of the store sees them. */

/** Where a job may be in its life; the last three are its end. */
export const JOB_STATUSES = [
  "queued",
  "running",
  "waiting_for_space",
  "succeeded",
  "failed",
  "cancelled",
] as const;

export type JobStatus = typeof JOB_STATUSES[number];

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
