/** What a benchmark found, and how things are compared where timings are noisy. */
import { type Bound, TARGETS } from "./_targets.ts";

/** One figure. */
export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** Where there is a bound to keep. */
  readonly target?: Bound;
  /** The target of `_targets.ts` that it is the figure of. */
  readonly reaches?: string;
  /** Whether the README shows it though it has no bound. */
  readonly shown?: true;
  /** Sizes, rounds, and what was compared with what. */
  readonly detail: string;
}

/** A quantity as another grows, for a plot. */
export interface Series {
  readonly name: string;
  readonly x: string;
  readonly y: string;
  readonly lines: Readonly<Record<string, readonly (readonly [x: number, y: number])[]>>;
}

/** What one part of the benchmarks found. */
export interface Findings {
  readonly rows: readonly BenchRow[];
  readonly series?: readonly Series[];
  /** Markdown. */
  readonly text?: string;
}

/** How much of a benchmark is run. */
export interface Settings {
  readonly extent: "quick" | "usual" | "full";
  /** Timings of which the median counts. */
  readonly rounds: number;
  /** Milliseconds of work between two waits, long enough that the 10 ms of a wait do not count. */
  readonly timed_ms: number;
  /** A Python with torch, transformers and trl, for the part that compares with them. */
  readonly python: string | null;
}

export const SETTINGS: Readonly<Record<Settings["extent"], Omit<Settings, "python">>> = {
  quick: { extent: "quick", rounds: 3, timed_ms: 250 },
  usual: { extent: "usual", rounds: 7, timed_ms: 500 },
  full: { extent: "full", rounds: 7, timed_ms: 500 },
};

/** The figure of one of the targets. @throws {RangeError} where there is no such target */
export function reach(id: string, value: number, detail: string): BenchRow {
  const target = TARGETS[id];
  if (!target) throw new RangeError(`There is no target ${id}.`);
  const { what: name, unit, bound } = target;
  return { name, value, unit, target: bound, reaches: id, detail };
}

/** Whether a row meets its target; null where it has none. */
export function holds({ value, target }: Pick<BenchRow, "value" | "target">): boolean | null {
  if (!target) return null;
  return "at_least" in target ? value >= target.at_least : value <= target.at_most;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Median over the rounds of a / b. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((time, round) => time / b[round]!));
}
