/** The rows of data files, one after another. */
import { basename } from "node:path";
import { InputError, located } from "../errors.ts";
import { type Format, formatOf } from "./files/format.ts";
import { listed } from "./files/select.ts";
import { type Slice, sliceBounds } from "./files/split.ts";
import type { ChooseColumns, FileRow, SourceRow } from "./files/source_row.ts";

export type { SourceRow };

/** Files of which only some rows are read, counted over all of them. */
export interface SlicedFiles {
  readonly files: readonly string[];
  readonly slice: Slice;
}

/** What {@link readDataFiles} takes beside the files. */
export interface ReadOptions {
  /** Which columns are read where a file knows them beforehand (Parquet, Arrow, CSV); all unless given. */
  readonly columns?: ChooseColumns;
  /** Called with every row that is read, those too that are passed over. */
  readonly onRead?: (() => void) | undefined;
}

/**
 * Streams the rows of files as these have them; their numbers run on from file to file.
 *
 * @param paths Absolute paths; a name that tells no format is read as JSON lines
 * @throws {InputError} naming the file, for one that cannot be read as a whole
 *
 * @example The demo's rows
 * ```ts
 * import assert from "node:assert/strict";
 * import { fileURLToPath } from "node:url";
 * import { readDataFiles } from "./data_files.ts";
 * const path = fileURLToPath(import.meta.resolve("../../examples/preferences.eval.jsonl"));
 * for await (const { row, value, problem } of readDataFiles([path])) {
 *   assert.equal(problem, undefined, `row ${row}`);
 *   assert.deepEqual(Object.keys(value as object), ["prompt", "chosen", "rejected"]);
 * }
 * ```
 */
export async function* readDataFiles(
  paths: readonly (string | SlicedFiles)[],
  { columns = (names) => names, onRead = () => {} }: ReadOptions = {},
): AsyncGenerator<SourceRow> {
  let rows = 0;
  for (const part of paths) {
    const { files, slice } = typeof part === "string" ? { files: [part], slice: {} } : part;
    const { from, to } = await sliceBounds(slice, () => countRows(files, onRead));
    let index = 0;
    for (const path of files) {
      if (index >= to) break;
      const file = basename(path);
      const before = rows;
      try {
        for await (const source of await openRows(path, columns)) {
          onRead();
          rows = before + source.row;
          if (index++ >= from) yield { ...source, row: rows, file };
          if (index >= to) break;
        }
      } catch (error) {
        throw located(error, [{ file }]);
      }
    }
    if (typeof part !== "string" && (index <= from || to <= from)) throw noRows(slice, files);
  }
}

/** A file's rows, numbered from 1. What a format needs is loaded with its first file: it would hold up a worker's start. */
const READERS: Readonly<
  Record<Format, (path: string, columns: ChooseColumns) => Promise<AsyncGenerator<FileRow>>>
> = {
  parquet: async (path, columns) => (await import("./files/parquet.ts")).readParquet(path, columns),
  arrow: async (path, columns) => (await import("./files/arrow.ts")).readArrow(path, columns),
  csv: async (path, columns) => (await import("./files/csv.ts")).readCsv(path, ",", columns),
  tsv: async (path, columns) => (await import("./files/csv.ts")).readCsv(path, "\t", columns),
  json: async (path) => (await import("./files/json.ts")).readJson(path, false),
  "json lines": async (path) => (await import("./files/json.ts")).readJson(path, true),
};

/** Of a file whose name tells no format: lines of JSON. */
function openRows(path: string, columns: ChooseColumns): Promise<AsyncGenerator<FileRow>> {
  return READERS[formatOf(path) ?? "json lines"](path, columns);
}

function noRows({ from, to, percent }: Slice, files: readonly string[]): InputError {
  const [first, last] = [from, to].map((bound) => bound === undefined ? "" : `${bound}${percent ? "%" : ""}`);
  return new InputError(
    `There are no rows in the slice [${first}:${last}] of ${listed(files.map((file) => basename(file)))}.`,
    { value: `[${first}:${last}]`, accepted: "a slice with rows in it" },
  );
}

async function countRows(files: readonly string[], onRead: () => void): Promise<number> {
  let count = 0;
  for (const path of files) {
    try {
      if (formatOf(path) === "parquet") count += await (await import("./files/parquet.ts")).parquetRows(path);
      else {
        for await (const _ of await openRows(path, () => [])) {
          onRead();
          count++;
        }
      }
    } catch (error) {
      throw located(error, [{ file: basename(path) }]);
    }
  }
  return count;
}
