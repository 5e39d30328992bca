/** The user's mistakes: where each stands, what was found there and what would be accepted. */

import { show } from "./json.ts";

/**
 * A step on the way to a value: a field's name, an index from 0, or a place that is no field: a file, or the number (from
 * 1) of a row or line as editors and data sets count them.
 */
export type PathPart =
  | string
  | number
  | { readonly file: string }
  | { readonly row: number }
  | { readonly line: number };

/** Where a value stands, from the outermost part to the innermost: `["items", 0, "candidates", 3]`. */
export type Path = readonly PathPart[];

/** What a refused value looked like and what would have been accepted. */
export interface InputProblem {
  /** Where the value stands, as far as the thrower knows it; {@link within} puts what is around it in front. */
  readonly path: Path;
  /** The value that was refused; long values are cut by the reporter. */
  readonly value?: unknown;
  /** What would be accepted instead, as a phrase. */
  readonly accepted?: string | undefined;
  /** HTTP status that fits: 400, 401, 404, 409, 412, 413, 416, 422 (the default), 429 or 503. */
  readonly status?: number | undefined;
  /** Seconds after which the same request may be accepted. */
  readonly retryAfter?: number | undefined;
}

/** Stands for the place in a sentence until its whole path is known; no user's text holds it. */
const PLACE = `place-${crypto.randomUUID()}`;

/**
 * The user's mistake, not ours: bad request, bad row, bad file. HTTP answers it with 4xx and a JSON problem, the
 * command line with exit code 2. The message is one sentence that names the value and what would be accepted.
 *
 * @example Refuse a negative beta
 * ```ts
 * import assert from "node:assert/strict";
 * import { InputError } from "./errors.ts";
 * const beta = -1;
 * const error = new InputError((field) => `${field} must be positive, not ${beta}.`, {
 *   path: ["method", "beta"],
 *   value: beta,
 *   accepted: "a number > 0",
 * });
 * assert.equal(error.message, "method.beta must be positive, not -1.");
 * ```
 */
export class InputError extends Error {
  override readonly name = "InputError";
  readonly problem: InputProblem;
  /** The path to where {@link problem}'s begins. */
  readonly context: Path;
  /** The message's parts, with the place in between; of one part: it names no place. */
  readonly sentence: readonly string[];

  /**
   * @param sentence made from the place as text; or a whole sentence, which comes behind the context where there is one
   * @param problem without a path: the value stands where {@link within} or the context says
   */
  constructor(
    sentence: string | readonly string[] | ((place: string) => string),
    { path = [], ...problem }: Partial<InputProblem> = {},
    context: Path = [],
  ) {
    const parts = typeof sentence === "function"
      ? sentence(PLACE).split(PLACE)
      : typeof sentence === "string"
      ? [sentence]
      : sentence;
    super(messageOf(parts, path, context));
    this.sentence = parts;
    this.problem = { path, ...problem };
    this.context = context;
  }

  /** HTTP status of the answer. */
  get status(): number {
    return this.problem.status ?? 422;
  }

  /** The whole path. */
  get path(): Path {
    return [...this.context, ...this.problem.path];
  }

  /** Where the value stands, in the user's own terms: `candidates[2]`, `method.beta`, `config.json: hidden_size`. */
  get field(): string {
    return formatPath(this.path);
  }
}

/**
 * What a value is refused with that is of another kind.
 *
 * @param shown the value in the sentence
 */
export function mustBe(
  what: string,
  path: Path,
  value: unknown,
  accepted = what,
  shown = show(value),
): InputError {
  return new InputError((place) => `${place} must be ${what}, not ${shown}.`, { path, value, accepted });
}

/**
 * Does a part of some work; what is refused in it is refused at its place in the whole.
 *
 * @param path where the part stands
 * @throws InputError with `path` in front of its own, and what else `work` throws
 *
 * @example The second of two candidates
 * ```ts
 * import assert from "node:assert/strict";
 * import { InputError, within } from "./errors.ts";
 * const check = (text: string) => {
 *   if (text === "") throw new InputError((field) => `${field} must not be empty.`);
 * };
 * assert.throws(() => within(["candidates", 1], () => check("")), { message: "candidates[1] must not be empty." });
 * ```
 */
export function within<T>(path: Path, work: () => T): T {
  try {
    const result = work();
    if (!(result instanceof Promise)) return result;
    return result.catch((error) => {
      throw located(error, path);
    }) as T;
  } catch (error) {
    throw located(error, path);
  }
}

/** An error with `path` in front of its own where it is the user's mistake, else as it is. @returns the error to throw */
export function located(error: unknown, path: Path): unknown {
  if (!(error instanceof InputError)) return error;
  return new InputError(error.sentence, error.problem, [...path, ...error.context]);
}

/**
 * An error about a part of what was made from a request, at its place in the request itself.
 *
 * @param from the path that the error's begins with; where it does not the error stays as it is
 * @param to what the sender calls the same place
 * @returns the error to throw
 */
export function relocated(error: unknown, from: Path, to: Path): unknown {
  if (!(error instanceof InputError)) return error;
  const { path, context, problem, sentence } = error;
  if (!from.every((part, i) => part === path[i])) return error;
  const own = Math.max(context.length, from.length);
  return new InputError(sentence, { ...problem, path: path.slice(own) }, [
    ...to,
    ...path.slice(from.length, own),
  ]);
}

/** A path as text: `items[0].candidates[3]`, `config.json: hidden_size`, `row 3: chosen[0].content`; `body` is all of it. */
export function formatPath(path: Path): string {
  let text = "";
  let joint = "";
  for (const part of path) {
    if (typeof part === "number") text += `[${part}]`;
    else if (typeof part === "string") text += `${joint || (text && ".")}${part}`;
    else text += `${text && ": "}${placeName(part)}`;
    joint = typeof part === "object" ? ": " : "";
  }
  return text || "body";
}

function placeName(place: Exclude<PathPart, string | number>): string {
  if ("file" in place) return place.file;
  return "row" in place ? `row ${place.row}` : `line ${place.line}`;
}

function messageOf(parts: readonly string[], own: Path, context: Path): string {
  if (parts.length === 1) {
    return context.length === 0 ? parts[0]! : `${begun(formatPath(context), context)}: ${parts[0]}`;
  }
  const path = [...context, ...own];
  const sentence = parts.join(formatPath(path));
  return parts[0] === "" ? begun(sentence, path) : sentence;
}

/** A sentence that begins with a row or line begins like one; names of fields and files keep their spelling. */
function begun(sentence: string, [first]: Path): string {
  const isWord = typeof first === "object" && !("file" in first);
  return isWord ? sentence[0]!.toUpperCase() + sentence.slice(1) : sentence;
}

/** Ends work early because its owner wants it to; nothing has gone wrong. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";

  /** @param how `stop`: it is to go on later, so what is done is to be kept; `cancel`: it is not */
  constructor(readonly how: "cancel" | "stop") {
    super(`This work is to ${how === "stop" ? "go on later" : "end"}.`);
  }
}

/** The device, or the thread that owns it, has gone in the middle of work that is not at fault: it can be done again. */
export class DeviceLostError extends Error {
  override readonly name = "DeviceLostError";

  /** @param charged whether it may be the work's own doing after all; false where other work was under way */
  constructor(message: string, readonly charged = true) {
    super(message);
  }
}
