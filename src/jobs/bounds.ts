/** Bounds of what is stored with a job of its errors and warnings: a few lines, whatever its data. */
import type { JobError } from "../api/job.ts";
import { boundedText, boundedValue } from "../bounded.ts";

/** Of each text. */
export const MOST_CHARACTERS = 1000;
const MOST_WARNINGS = 50;

/** What a job was warned of. */
export interface Warnings {
  readonly count: number;
  readonly first: readonly string[];
}

/** Before the first. */
export const NO_WARNINGS: Warnings = { count: 0, first: [] };

/** One warning more. */
export function withWarning({ count, first }: Warnings, message: string): Warnings {
  return {
    count: count + 1,
    first: count < MOST_WARNINGS ? [...first, boundedText(message, MOST_CHARACTERS)] : first,
  };
}

/** An error as a job keeps it. */
export function boundedError({ message, field, value, accepted }: JobError): JobError {
  return {
    message: boundedText(message, MOST_CHARACTERS),
    ...(field === undefined ? {} : { field: boundedText(field, MOST_CHARACTERS) }),
    ...(value === undefined ? {} : { value: boundedValue(value, MOST_CHARACTERS) }),
    ...(accepted === undefined ? {} : { accepted: boundedText(accepted, MOST_CHARACTERS) }),
  };
}
