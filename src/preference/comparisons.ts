/** The rows of data files as comparisons. */
import { InputError, within } from "../errors.ts";
import { isObject } from "../json.ts";
import { readDataFiles, type SlicedFiles } from "./data_files.ts";
import { type Comparison, parseRow, type RowKind } from "./rows.ts";

/**
 * Reads the rows of files, one after another.
 *
 * @param paths as `readDataFiles` takes them
 * @throws InputError naming the file, and the row that cannot be read
 */
export async function* readComparisons(
  paths: readonly (string | SlicedFiles)[],
  kind: RowKind,
): AsyncGenerator<Comparison> {
  for await (const { row, file, value, problem } of readDataFiles(paths)) {
    const place = [{ file }, { row }];
    if (problem !== undefined) {
      throw new InputError((place) => `${place} ${problem}.`, {
        path: place,
        accepted: "a row as text has it",
      });
    }
    yield within(place, () => parseRow(withoutNulls(value), row, kind));
  }
}

/** A table's null is a missing value, as each of its rows has every column. */
function withoutNulls(value: unknown): unknown {
  if (!isObject(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([, column]) => column !== null));
}
