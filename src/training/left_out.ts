/** The rows that could not be used, however many they are, in a few lines. */
import { boundedText } from "../bounded.ts";

/** A row that could not be used, by its number in the file or list (from 1). */
export interface LeftOutRow {
  readonly row: number;
  readonly reason: string;
}

/** Rows left out of one data set. */
export interface LeftOut {
  readonly count: number;
  /** The most frequent reasons first; what is beyond them counts as {@link OTHERS}. */
  readonly reasons: readonly { readonly reason: string; readonly count: number }[];
  /** The first of them. */
  readonly first: readonly LeftOutRow[];
}

/** Stands for the reasons that have no line of their own. */
export const OTHERS = "other reasons";

/** How many of the first are named. */
export const mostRows = 20;
const mostReasons = 10;
/** Reasons that name a row's own values may be as many as the rows. */
const mostCounted = 1000;
const mostCharacters = 200;

/** Counts rows by their reasons. */
export function summarizeLeftOut(rows: readonly LeftOutRow[]): LeftOut {
  const counts = new Map<string, number>();
  for (const { reason } of rows) {
    const text = boundedText(reason, mostCharacters);
    const key = counts.has(text) || counts.size < mostCounted ? text : OTHERS;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const sorted = [...counts].filter(([reason]) => reason !== OTHERS).sort(([, a], [, b]) => b - a);
  const reasons = sorted.slice(0, mostReasons).map(([reason, count]) => ({ reason, count }));
  const others = rows.length - reasons.reduce((sum, { count }) => sum + count, 0);
  return {
    count: rows.length,
    reasons: others === 0 ? reasons : [...reasons, { reason: OTHERS, count: others }],
    first: rows.slice(0, mostRows).map(({ row, reason }) => ({
      row,
      reason: boundedText(reason, mostCharacters),
    })),
  };
}
