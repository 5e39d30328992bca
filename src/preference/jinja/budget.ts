/**
 * What a template may use up. A template is a program that may come with a request, and it runs in one thread with all
 * others: everything that takes time or memory is charged here before it is done.
 *
 * Rendering is synchronous and never nested, so that one account for the thread is enough.
 */
import { BoundError } from "./errors.ts";

/** Bounds of one rendering. */
export interface Limits {
  /** Nodes of the template that are evaluated, and entries and pieces of text that its operations look at. */
  readonly steps: number;
  /** Bytes of all texts and lists that are made, whether they are kept or not. */
  readonly bytes: number;
  /** UTF-16 units of the text that is written. */
  readonly output: number;
  /** Calls of macros, recursive loops and nested values within each other. */
  readonly depth: number;
  /** Milliseconds. */
  readonly ms: number;
}

/** A thousand long turns need a hundredth of the steps and bytes. */
export const LIMITS: Limits = { steps: 4_000_000, bytes: 2 ** 26, output: 2 ** 24, depth: 100, ms: 2_000 };

/** Bytes of an entry of a list or a dict. */
const ENTRY = 16;
/** Steps between two looks at the clock. */
const CLOCK = 8_192;
/** UTF-16 units that are searched or copied in the time of a step. */
const UNITS_A_STEP = 64;

let limits = LIMITS;
let steps = 0;
let bytes = 0;
let output = 0;
let depth = 0;
let nextLook = CLOCK;
let end = Infinity;

/** Does the work of one rendering under limits. @throws {BoundError} naming the one that it passes */
export function withBudget<T>(own: Limits, work: () => T): T {
  limits = own;
  steps =
    bytes =
    output =
    depth =
      0;
  nextLook = CLOCK;
  end = performance.now() + own.ms;
  try {
    return work();
  } catch (error) {
    if (error instanceof RangeError) throw tooDeep();
    throw error;
  }
}

/** Charges evaluations. */
export function step(count = 1): void {
  steps += count;
  if (steps < nextLook) return;
  if (steps > limits.steps) throw new BoundError(`it takes more than ${limits.steps} steps`);
  if (performance.now() > end) throw new BoundError(`it takes more than ${limits.ms} ms`);
  nextLook = steps + CLOCK;
}

/** Charges a search through a text, or a comparison. */
export function chargeSearch(units: number): void {
  if (units >= UNITS_A_STEP) step(Math.ceil(units / UNITS_A_STEP));
}

/** Charges a text that is about to be made. @param units its length */
export function chargeText(units: number): void {
  bytes += units;
  if (!(bytes <= limits.bytes)) throw tooMuch();
  chargeSearch(units);
}

/** Charges a list, dict or the like that is about to be made. */
export function chargeList(entries: number): void {
  bytes += entries * ENTRY;
  if (!(bytes <= limits.bytes)) throw tooMuch();
  step(Math.ceil(entries / 4));
}

/** Charges text that is written. */
export function chargeOutput(units: number): void {
  output += units;
  if (output > limits.output) throw new BoundError(`it writes more than ${limits.output} characters`);
}

/** Goes a level deeper, for as long as the work lasts. */
export function deeper<T>(work: () => T): T {
  if (++depth > limits.depth) throw tooDeep();
  try {
    return work();
  } finally {
    depth--;
  }
}

function tooMuch(): BoundError {
  return new BoundError(`it makes texts and lists of more than ${limits.bytes} bytes in all`);
}

function tooDeep(): BoundError {
  return new BoundError(`it goes more than ${limits.depth} levels deep`);
}
