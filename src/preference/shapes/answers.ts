/** One of a preference row's answers, and what columns of answers hold. */
import { InputError, type Path } from "../../errors.ts";
import type { Text } from "../rows.ts";
import type { Columns } from "./columns.ts";
import { readTurns, takeText, unlike } from "./turns.ts";

/** One answer to a row's prompt, or a whole conversation that ends with it. */
export interface Answer {
  readonly text: Text;
  /** 1 is the best; equal ranks say that neither is better. */
  readonly rank: number;
  /** Where it stands in its row. */
  readonly path: Path;
}

/** A way in which data sets write several answers. */
export interface AnswerShape {
  /** Columns that a row of this shape has. */
  readonly columns: readonly string[];
  /** Further columns that are its own where they are there. */
  readonly further?: readonly string[];
  /** What each entry of the first column has, where that is a list of objects. */
  readonly inside?: readonly string[];
  /** @throws {InputError} where a column holds something else */
  readonly read: (columns: Columns) => Answer[];
}

/** A column's answer. @throws {InputError} where it is neither text nor turns */
export function takeAnswer(columns: Columns, name: string, rank: number): Answer {
  return { text: takeText(columns, name), rank, path: [name] };
}

/** A column's list, with an entry an answer. @throws {InputError} where it is something else */
export function takeList(columns: Columns, name: string): readonly unknown[] {
  const value = columns.take(name);
  if (Array.isArray(value)) return value;
  throw unlike("a list", [name], value, "a list with an entry an answer");
}

/** A column's number. @throws {InputError} as {@link numberOf} */
export function takeNumber(columns: Columns, name: string): number {
  return numberOf(columns.take(name), [name]);
}

/** A number, as a file of text alone may write it. @throws {InputError} where it is something else */
export function numberOf(value: unknown, path: Path): number {
  const number = typeof value === "string" && value.trim() !== "" ? Number(value) : value;
  if (typeof number === "boolean") return Number(number);
  if (typeof number === "number" && Number.isFinite(number)) return number;
  throw unlike("a number", path, value);
}

/** A turn that is not to be learned from (`weight: 0`) is no answer. */
export function checkWeights(columns: Columns, { path }: Answer): void {
  const name = path[0];
  const value = typeof name === "string" && path.length === 1 ? columns.peek(name) : undefined;
  if (!Array.isArray(value) || value.every((entry) => typeof entry === "string")) return;
  const { turns, unweighted } = readTurns(value, path);
  if (!unweighted.includes(turns.length - 1)) return;
  throw new InputError((field) => `${field} ends with a turn of weight 0, which is not to be learned from.`, {
    path,
    accepted: "a last turn with a weight other than 0",
  });
}
