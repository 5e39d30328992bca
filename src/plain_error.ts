/** Errors on their way between threads: an `Error` that is posted loses its class and what it carries. */
import { DeviceLostError, InputError, type InputProblem } from "./errors.ts";

/** An error as plain data. */
export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  readonly problem: InputProblem | undefined;
  readonly lost: boolean;
}

/** Takes an error apart. */
export function toPlainError(error: unknown): PlainError {
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  const problem = error instanceof InputError ? error.problem : undefined;
  return { message, stack, problem, lost: error instanceof DeviceLostError };
}

/** The error that {@link toPlainError} took apart, of its own class where that is one of ours. */
export function fromPlainError({ message, stack, problem, lost }: PlainError): Error {
  if (problem) return new InputError(message, problem);
  const error = lost ? new DeviceLostError(message) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
