/** Rows of a data set to comparisons, with an account of what was made of them. */
import { InputError, located, type Path } from "../errors.ts";
import { isDeepStrictEqual } from "node:util";
import type { SourceRow } from "./files/source_row.ts";
import { type LeftOut, LeftOutRows } from "./left_out.ts";
import { type Comparison, knownColumns, readRow, type RowOptions } from "./rows.ts";
import { PROMPT_COLUMNS } from "./shapes/prompts.ts";

/** What was made of a data set's rows. */
export interface RowsReport {
  /** Rows read. */
  readonly rows: number;
  /** What they were read as, the most frequent first. */
  readonly shapes: readonly { readonly shape: string; readonly rows: number }[];
  /** Columns that hold text and were not used. */
  readonly unused: readonly string[];
  /** Columns of files that know theirs beforehand which were not even read. */
  readonly unread: readonly string[];
  /** Pairs of which both responses are the same. */
  readonly identical: number;
  /** Rows that have tools. */
  readonly with_tools: number;
  readonly left_out: LeftOut;
}

/** Shapes and columns that are told: a file with a column of its own for every row is not to fill the memory. */
const MOST_NAMES = 50;

/** A row of a file, or one that came by itself. */
type AnyRow = Omit<SourceRow, "file"> & Partial<Pick<SourceRow, "file">>;

/** Reads rows; one that cannot be used is left out, with its number and the reason. */
export class RowReader {
  /** Rows that are not learned from. */
  readonly left_out = new LeftOutRows();
  readonly #options: RowOptions;
  readonly #placeOf: (row: AnyRow) => Path;
  readonly #shapes = new Map<string, number>();
  readonly #unused = new Set<string>();
  readonly #unread = new Set<string>();
  #rows = 0;
  #identical = 0;
  #withTools = 0;

  /** @param placeOf where a row stands, for the error that the first one at fault may become */
  constructor(
    options: RowOptions,
    placeOf: (row: AnyRow) => Path = ({ row, file }) => [...file === undefined ? [] : [{ file }], { row }],
  ) {
    this.#options = options;
    this.#placeOf = placeOf;
  }

  /** The pairs or completions of a row. */
  read(source: AnyRow): readonly Comparison[] {
    const { row, value, problem } = source;
    this.#rows++;
    try {
      if (problem !== undefined) throw new InputError((place) => `${place} ${problem}.`);
      const { comparisons, skipped, shape, unused } = readRow(value, row, this.#options);
      if (skipped !== undefined) {
        this.left_out.skip(row, skipped);
        return [];
      }
      count(this.#shapes, shape);
      for (const name of unused) if (this.#unused.size < MOST_NAMES) this.#unused.add(name);
      for (const { responses, tools } of comparisons) {
        if (responses.length === 2 && isDeepStrictEqual(responses[0], responses[1])) this.#identical++;
        if (tools !== undefined) this.#withTools++;
      }
      return comparisons;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      const at = located(error, this.#placeOf(source)) as InputError;
      // The path of a row by itself is empty, which a sentence calls the body.
      this.left_out.fault(row, problem ?? error.message.replace(/^body /, ""), () => at);
      return [];
    }
  }

  /**
   * Which of a file's columns are to be read: those that are known; all, where none of them is the prompt, so that a row tells
   * what else it has.
   */
  choose(names: readonly string[]): readonly string[] {
    const mapped = Object.values(this.#options.columns ?? {})
      .flatMap((name) => name === null ? [] : [name, name.split(".")[0]!]);
    const wanted = names.filter((name) => knownColumns.includes(name) || mapped.includes(name));
    const { prompt } = this.#options.columns ?? {};
    if (prompt === undefined && !wanted.some((name) => PROMPT_COLUMNS.includes(name))) return names;
    for (const name of names) {
      if (!wanted.includes(name) && this.#unread.size < MOST_NAMES) this.#unread.add(name);
    }
    return wanted;
  }

  /** Counts rows that were read elsewhere. */
  count(rows: number): void {
    this.#rows += rows;
  }

  /** Takes over what was made of rows before. */
  take({ rows, shapes, unused, unread, identical, with_tools, left_out }: RowsReport): void {
    this.count(rows);
    for (const { shape, rows } of shapes) count(this.#shapes, shape, rows);
    for (const name of unused) this.#unused.add(name);
    for (const name of unread) this.#unread.add(name);
    this.#identical += identical;
    this.#withTools += with_tools;
    this.left_out.take(left_out);
  }

  /** What was made of the rows so far. */
  report(): RowsReport {
    return {
      rows: this.#rows,
      shapes: [...this.#shapes].sort(([, a], [, b]) => b - a).map(([shape, rows]) => ({ shape, rows })),
      unused: [...this.#unused],
      unread: [...this.#unread],
      identical: this.#identical,
      with_tools: this.#withTools,
      left_out: this.left_out.summary(),
    };
  }
}

/** How many rows may be at fault: one, be it of a few, unless none is allowed. */
export function allowedFaults(rows: number, share: number): number {
  // 0.29 of 100 is 28.999999999999996 in floating point, and means 29.
  return share === 0 ? 0 : Math.max(1, Math.floor(rows * share * (1 + Number.EPSILON)));
}

/**
 * The error of a data set with too many rows at fault: the first one's, with how many there are and others' reasons.
 *
 * @param rows all of them
 * @param read those that were looked at
 */
export function tooManyLeftOut(
  first: InputError,
  rows: number,
  { faults, first: told }: LeftOut,
  share: number,
  read = rows,
): InputError {
  const allowed = allowedFaults(rows, share);
  if (faults < 2) {
    return allowed > 0 ? first : withEnd(first, ` No row may be left out (max_left_out ${share}).`);
  }
  const others = told.slice(1, 4).map(({ row, reason }) => `row ${row}: ${reason.replace(/\.$/, "")}`);
  const listed = others.length > 0 ? `: ${others.join("; ")}` : "";
  return withEnd(
    first,
    ` ${
      read < rows ? "At least" : "In all"
    } ${faults} of ${rows} rows cannot be used, max_left_out ${share} allows ${allowed}${listed}.`,
  );
}

function withEnd({ sentence, problem, context }: InputError, end: string): InputError {
  return new InputError([...sentence.slice(0, -1), sentence.at(-1)! + end], problem, context);
}

function count(counts: Map<string, number>, key: string, times = 1): void {
  if (counts.has(key) || counts.size < MOST_NAMES) counts.set(key, (counts.get(key) ?? 0) + times);
}
