/** A training job's life and events, as everyone outside of the store sees them. */
import { InputError, type Path } from "../errors.ts";

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

/**
 * What a job cannot be asked for as it stands.
 *
 * @param accepted a job that could be asked for it
 * @param value what the request names it by
 */
export function conflict(message: string, accepted: string, value: unknown, path: Path = ["id"]): InputError {
  return new InputError(message, { path, value, accepted, status: 409 });
}
