/** How much of what happens to a job is kept with it: whatever its data, it is a few lines. */
import type { JobError } from "../api/job.ts";
import { boundedText, boundedValue } from "../bounded.ts";

/** Of each part of it. */
export const mostCharacters = 1000;
const mostWarnings = 50;

/** What a job was warned of. */
export interface Warnings {
  readonly count: number;
  readonly first: readonly string[];
}

/** Before the first. */
export const noWarnings: Warnings = { count: 0, first: [] };

/** One warning more. */
export function withWarning({ count, first }: Warnings, message: string): Warnings {
  return {
    count: count + 1,
    first: count < mostWarnings ? [...first, boundedText(message, mostCharacters)] : first,
  };
}

/** An error as a job keeps it. */
export function boundedError({ message, field, value, accepted }: JobError): JobError {
  return {
    message: boundedText(message, mostCharacters),
    ...(field === undefined ? {} : { field: boundedText(field, mostCharacters) }),
    ...(value === undefined ? {} : { value: boundedValue(value, mostCharacters) }),
    ...(accepted === undefined ? {} : { accepted: boundedText(accepted, mostCharacters) }),
  };
}
