/** What a benchmark found, and how two things are compared where timings are noisy. */

export interface BenchRow {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** What the value should be at least or at most, where there is a target. */
  readonly target?: { readonly at_least: number } | { readonly at_most: number };
  /** Sizes, rounds, and what was compared with what. */
  readonly detail: string;
}

/** Whether a row meets its target; null where it has none. */
export function holds({ value, target }: BenchRow): boolean | null {
  if (!target) return null;
  return "at_least" in target ? value >= target.at_least : value <= target.at_most;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * Times alternatives in turn, after one round that warms them up, so that what slows the machine slows all of them.
 *
 * @returns milliseconds of each round by name
 */
export async function alternate<Name extends string>(
  rounds: number,
  alternatives: Readonly<Record<Name, () => Promise<unknown>>>,
): Promise<Record<Name, number[]>> {
  const names = Object.keys(alternatives) as Name[];
  const times = Object.fromEntries(names.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = -1; round < rounds; round++) {
    for (const name of names) {
      const start = performance.now();
      await alternatives[name]();
      if (round >= 0) times[name].push(performance.now() - start);
    }
  }
  return times;
}

/** Median over the rounds of a / b. */
export function medianRatio(a: readonly number[], b: readonly number[]): number {
  return median(a.map((time, round) => time / b[round]!));
}

/** How much of a benchmark is run. */
export interface Settings {
  /** Timings of which the median counts. */
  readonly rounds: number;
  /** `quick` for a look, `full` for what takes long. */
  readonly extent: "quick" | "usual" | "full";
}
