/** Rows that are not learned from, however many they are, in a few lines. */
import { boundedText } from "../bounded.ts";
import type { InputError } from "../errors.ts";

/** A row that is not used, by its number in the file or list (from 1). */
export interface LeftOutRow {
  readonly row: number;
  readonly reason: string;
}

/** Rows left out of one data set. */
export interface LeftOut {
  readonly count: number;
  /** Those of them that are at fault: the others are of a kind that the method does not learn from. */
  readonly faults: number;
  /** The most frequent reasons first; what is beyond them counts as {@link OTHERS}. */
  readonly reasons: readonly { readonly reason: string; readonly count: number }[];
  /** The first of them. */
  readonly first: readonly LeftOutRow[];
}

/** Stands for the reasons that have no line of their own. */
const OTHERS = "other reasons";

/** How many of the first are named. */
export const MOST_ROWS = 20;
const MOST_REASONS = 10;
/** Reasons that name a row's own values may be as many as the rows. */
const MOST_COUNTED = 1000;
const MOST_CHARACTERS = 200;

/** Counts rows by their reasons. */
export class LeftOutRows {
  #count = 0;
  #faults = 0;
  readonly #counts = new Map<string, number>();
  readonly #first: LeftOutRow[] = [];
  #firstFault: { readonly row: number; readonly error: InputError } | null = null;

  /** Rows that are at fault. */
  get faults(): number {
    return this.#faults;
  }

  /** What was wrong with the first row at fault. */
  get firstFault(): InputError | null {
    return this.#firstFault?.error ?? null;
  }

  /** A row that the method does not learn from. */
  skip(row: number, reason: string): void {
    const text = boundedText(reason, MOST_CHARACTERS);
    this.#add(text, 1);
    this.#count++;
    this.#name({ row, reason: text });
  }

  /** Rows that were counted before. */
  take({ count, faults, reasons, first }: LeftOut): void {
    this.#count += count;
    this.#faults += faults;
    for (const { reason, count } of reasons) this.#add(reason, count);
    this.#first.push(...first.slice(0, Math.max(0, MOST_ROWS - this.#first.length)));
  }

  /** By their numbers: what is read and what is tokenised is not always found out in that order. */
  #name(row: LeftOutRow): void {
    const place = this.#first.findLastIndex((other) => other.row <= row.row) + 1;
    if (place >= MOST_ROWS) return;
    this.#first.splice(place, 0, row);
    this.#first.length = Math.min(this.#first.length, MOST_ROWS);
  }

  /** A row that cannot be used. */
  fault(row: number, reason: string, error: () => InputError): void {
    if (this.#firstFault === null || row < this.#firstFault.row) this.#firstFault = { row, error: error() };
    this.#faults++;
    this.skip(row, reason);
  }

  #add(reason: string, times: number): void {
    const key = this.#counts.has(reason) || this.#counts.size < MOST_COUNTED ? reason : OTHERS;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + times);
  }

  /** Them all in a few lines. */
  summary(): LeftOut {
    const sorted = [...this.#counts].filter(([reason]) => reason !== OTHERS)
      .sort(([a, timesA], [b, timesB]) => timesB - timesA || (a < b ? -1 : 1));
    const reasons = sorted.slice(0, MOST_REASONS).map(([reason, count]) => ({ reason, count }));
    const others = this.#count - reasons.reduce((sum, { count }) => sum + count, 0);
    return {
      count: this.#count,
      faults: this.#faults,
      reasons: others === 0 ? reasons : [...reasons, { reason: OTHERS, count: others }],
      first: this.#first,
    };
  }
}

/** Rows of which only that is known, in a few lines. */
export function summarizeLeftOut(rows: readonly LeftOutRow[]): LeftOut {
  const left = new LeftOutRows();
  for (const { row, reason } of rows) left.skip(row, reason);
  return left.summary();
}
