/** Errors on their way between threads: an `Error` that is posted loses its class and what it carries. */
import { DeviceLostError, InputError, type InputProblem } from "./errors.ts";

/** An error as plain data. */
export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of the user's mistakes. */
  readonly input: Pick<InputError, "sentence" | "problem" | "context"> | undefined;
  readonly lost: boolean;
}

/** Takes an error apart. */
export function toPlainError(error: unknown): PlainError {
  const { message, stack } = error instanceof Error ? error : { message: String(error), stack: undefined };
  const input = error instanceof InputError
    ? { sentence: error.sentence, problem: cloneable(error.problem), context: error.context }
    : undefined;
  return { message, stack, input, lost: error instanceof DeviceLostError };
}

/** With a value that may be posted: an object of a configuration knows who has read it, which no other thread can take. */
function cloneable(problem: InputProblem): InputProblem {
  try {
    return structuredClone(problem);
  } catch {
    return { ...problem, value: JSON.parse(JSON.stringify(problem.value) ?? "null") };
  }
}

/** The error that {@link toPlainError} took apart, of its own class where that is one of ours. */
export function fromPlainError({ message, stack, input, lost }: PlainError): Error {
  if (input) return new InputError(input.sentence, input.problem, input.context);
  const error = lost ? new DeviceLostError(message) : new Error(message);
  if (stack !== undefined) error.stack = stack;
  return error;
}
