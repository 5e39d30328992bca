/** Splits and slices of them, as `datasets` writes them: `train[:1000]`, `train[10%:20%]`, `train+validation`. */
import { InputError } from "../../errors.ts";

/** Rows from a bound up to another, both as written: below 0 they count from the end. */
export interface Slice {
  readonly from?: number | undefined;
  readonly to?: number | undefined;
  /** Whether the bounds are in hundredths of the rows. */
  readonly percent?: boolean | undefined;
}

/** A split and what of it is meant; all of it unless there is a slice. */
export interface SplitPart {
  readonly split: string;
  readonly slice?: Slice | undefined;
}

const PART = /^(\w[\w.-]*)(?:\[(?:(-?\d[\d_]*)(%?))?:(?:(-?\d[\d_]*)(%?))?\])?$/;
const FORMS =
  "a split's name as train, a slice as train[:1000] or train[10%:20%], or a sum as train+validation";

/**
 * Reads what `split` says. @throws {InputError} where it has none of the forms
 *
 * @example A slice
 * ```ts
 * import assert from "node:assert/strict";
 * import { parseSplit } from "./split.ts";
 * assert.deepEqual(parseSplit("train[:1_000]")[0]?.slice, { to: 1000, percent: false });
 * ```
 */
export function parseSplit(text: string): SplitPart[] {
  return text.split("+").map((part) => {
    const [whole, split, from, fromUnit, to, toUnit] = PART.exec(part.trim()) ?? [];
    const percent = Boolean(fromUnit || toUnit);
    const [first, last] = [from, to].map((bound) =>
      bound === undefined ? undefined : Number(bound.replaceAll("_", ""))
    );
    const isBeyond = percent && [first, last].some((bound) => Math.abs(bound ?? 0) > 100);
    if (split === undefined || isBeyond) {
      throw new InputError((field) => `${field} must be ${FORMS}, not ${JSON.stringify(text)}.`, {
        value: text,
        accepted: FORMS,
      });
    }
    if (whole === split) return { split };
    const bounds = { ...(first !== undefined && { from: first }), ...(last !== undefined && { to: last }) };
    return { split, slice: { ...bounds, percent } };
  });
}

/**
 * A slice's bounds among so many rows, from 0, as `datasets` rounds them (`closest`).
 *
 * @param count counts the rows, which is asked only where the bounds depend on it
 */
export async function sliceBounds(
  { from, to, percent = false }: Slice,
  count: () => Promise<number>,
): Promise<{ from: number; to: number }> {
  if (!percent && (from ?? 0) >= 0 && (to ?? 0) >= 0) return { from: from ?? 0, to: to ?? Infinity };
  const rows = await count();
  const absolute = (bound: number) => percent ? roundHalfEven(bound * rows / 100) : bound;
  const inside = (bound: number) => Math.min(bound < 0 ? Math.max(rows + bound, 0) : bound, rows);
  return {
    from: from === undefined ? 0 : inside(absolute(from)),
    to: to === undefined ? rows : inside(absolute(to)),
  };
}

/** Python's round(). */
function roundHalfEven(value: number): number {
  return Math.abs(value % 1) === 0.5 ? 2 * Math.round(value / 2) : Math.round(value);
}
