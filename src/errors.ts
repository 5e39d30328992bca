/** What a refused value looked like and what would have been accepted. */
export interface InputProblem {
  /** Where the value stands, in the user's own terms: `candidates[2]`, `method.beta`, `config.json: hidden_size`. */
  readonly field: string;
  /** The value that was refused; long values are cut by the reporter. */
  readonly value?: unknown;
  /** What would be accepted instead, as a phrase. */
  readonly accepted?: string;
  /** HTTP status that fits: 400, 401, 404, 409, 413 or 422 (the default). */
  readonly status?: number;
}

/**
 * The user's mistake, not ours: bad request, bad row, bad file. HTTP answers it with 4xx and a JSON problem, the
 * command line with exit code 2. The message is one sentence that names the value and what would be accepted.
 *
 * @example Refuse a negative beta
 * ```ts
 * import { InputError } from "./errors.ts";
 * const beta = -1;
 * const error = new InputError(`beta must be positive, not ${beta}.`, { field: "method.beta", value: beta, accepted: "a number > 0" });
 * ```
 */
export class InputError extends Error {
  override readonly name = "InputError";
  readonly problem: InputProblem;

  constructor(message: string, problem: InputProblem) {
    super(message);
    this.problem = problem;
  }

  /** HTTP status of the answer. */
  get status(): number {
    return this.problem.status ?? 422;
  }
}

/** The device, or the thread that owns it, has gone in the middle of work that is not at fault: it can be done again. */
export class DeviceLostError extends Error {
  override readonly name = "DeviceLostError";
}
