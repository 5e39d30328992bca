/** Rows of JSON, however the file is laid out. */
import { InputError } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { joined } from "../../bytes.ts";
import { chain, readBytes } from "./bytes.ts";
import { readJsonLines } from "./json_lines.ts";
import { readJsonValues } from "./json_values.ts";
import { parseJson } from "./parse_json.ts";
import type { FileRow } from "./source_row.ts";

/** Bytes that are looked at for a file's first line. */
const FIRST_LINE = 2 ** 20;

/** Names under which a whole data set is kept in one object. */
const LISTS = /^(data|rows|train|validation|test|examples|instances|items|records|samples)$/;

/**
 * Streams rows of JSON: one array, one value a line, or (indented) objects one after another. How the text begins decides,
 * as many a `.json` holds lines and some a `.jsonl` an array.
 *
 * @param lines whether the file's name says that it is lines
 * @throws {InputError} for a file that is missing, damaged, or one object around its rows
 */
export async function* readJson(path: string, lines: boolean): AsyncGenerator<FileRow> {
  const chunks = readBytes(path);
  const start: Uint8Array[] = [];
  let layout: Layout | null = null;
  try {
    while (layout === null) {
      const { value, done } = await chunks.next();
      if (!done) start.push(value);
      layout = layoutOf(joined(start), lines, done === true);
    }
    const all = chain(joined(start), chunks);
    const rows = layout === "lines" ? readJsonLines(all) : readJsonValues(all, layout === "array");
    yield* lines ? rows : refuseWrapper(rows);
  } finally {
    await chunks.return(undefined);
  }
}

type Layout = "array" | "values" | "lines";

/** How a text is laid out; null where more of it must be seen. */
function layoutOf(start: Uint8Array, lines: boolean, whole: boolean): Layout | null {
  whole ||= start.length >= FIRST_LINE;
  const from = start.findIndex((byte) => byte > 0x20 && byte !== 0xef && byte !== 0xbb && byte !== 0xbf);
  if (from < 0) return whole ? "lines" : null;
  const first = String.fromCharCode(start[from]!);
  if (first !== "[" && first !== "{") return "lines";
  if (first === "[" && !lines) return "array";
  const feed = start.indexOf(0x0a, from);
  const end = feed < 0 ? start.length : feed;
  if (feed < 0 && !whole) return null;
  const isWhole = parseJson(start.subarray(from, end))?.value !== undefined;
  if (first === "{") {
    if (isWhole || feed < 0) return "lines";
    // A broken line is followed by another object, an indented object's first line is not.
    const next = start[feed + 1];
    if (next === undefined && !whole) return null;
    const isBracket = new TextDecoder().decode(start.subarray(from, end)).trim() === "{";
    return next !== start[from] && (isBracket || !lines) ? "values" : "lines";
  }
  // A list in the first of several lines is one bad row, and alone it is all of them.
  const more = start.subarray(end).some((byte) => byte > 0x20);
  if (isWhole && !more && !whole) return null;
  return isWhole && more ? "lines" : "array";
}

/** One object that holds the rows under a name would be one row of no known shape. */
async function* refuseWrapper(rows: AsyncGenerator<FileRow>): AsyncGenerator<FileRow> {
  const first = await rows.next();
  if (first.done) return;
  const second = await rows.next();
  const value = isObject(first.value.value) ? first.value.value : {};
  const key = Object.keys(value).find((key) =>
    LISTS.test(key) && Array.isArray(value[key]) && isObject(value[key][0])
  );
  if (second.done && key !== undefined) {
    throw new InputError(
      (file) =>
        `${file} is one object with its rows under ${
          JSON.stringify(key)
        }: save that list as a file of its own.`,
      { value: Object.keys(value), accepted: "a list of rows, or one row a line" },
    );
  }
  yield first.value;
  if (!second.done) yield second.value;
  yield* rows;
}
