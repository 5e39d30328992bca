/** Rows of JSON that is not cut into lines: the elements of one array, or whole values one after another. */
import { InputError } from "../../errors.ts";
import { RowBytes } from "./_row_bytes.ts";
import type { FileRow } from "./source_row.ts";

const QUOTE = 0x22, BACKSLASH = 0x5c, COMMA = 0x2c, LINE_FEED = 0x0a;
const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
const opens = (byte: number) => byte === 0x5b || byte === 0x7b;
const closes = (byte: number) => byte === 0x5d || byte === 0x7d;

/**
 * Cuts a stream of JSON into rows by its brackets and holds one row at a time. A row that is no JSON between its own
 * brackets is told and the next one read.
 *
 * @param isArray whether the rows are an array's elements
 * @throws {InputError} where brackets are left open, or more follows the array
 */
export async function* readJsonValues(
  chunks: AsyncIterable<Uint8Array>,
  isArray: boolean,
): AsyncGenerator<FileRow> {
  const base = isArray ? 1 : 0;
  let depth = 0;
  let inString = false;
  let escaped = false;
  let line = 1;
  let row = 0;
  const bytes = new RowBytes();
  const whole = (): FileRow | null => {
    const parsed = bytes.parse();
    return parsed && { row: ++row, ...parsed };
  };
  let ended = false;
  for await (const chunk of chunks) {
    let start = 0;
    for (let at = 0; at < chunk.length; at++) {
      const byte = chunk[at]!;
      if (byte === LINE_FEED) line++;
      if (inString) {
        if (escaped) escaped = false;
        else if (byte === BACKSLASH) escaped = true;
        else if (byte === QUOTE) inString = false;
        continue;
      }
      if (depth < base || ended) {
        // In front of the array, or behind it.
        if (!ended && opens(byte)) depth = base;
        else if (ended && !isSpace(byte)) throw trailing(line);
        start = at + 1;
      } else if (byte === QUOTE) inString = true;
      else if (opens(byte)) depth++;
      else if (byte === COMMA && depth === base && isArray) {
        bytes.add(chunk.subarray(start, at));
        yield whole() ?? { row: ++row, problem: "is not JSON: there is nothing between two commas" };
        start = at + 1;
      } else if (closes(byte)) {
        depth--;
        const end = isArray ? depth < base : depth === 0;
        if (depth < 0) throw trailing(line);
        if (!end) continue;
        bytes.add(chunk.subarray(start, isArray ? at : at + 1));
        const last = whole();
        if (last !== null) yield last;
        start = at + 1;
        ended = isArray;
      }
    }
    bytes.add(chunk.subarray(start));
  }
  if (isArray ? ended : depth === 0 && !inString) {
    const last = whole();
    if (last !== null) yield last;
    return;
  }
  throw new InputError((file) => `${file} ends at line ${line} in the middle of row ${row + 1}.`, {
    accepted: "whole JSON",
  });
}

function trailing(line: number): InputError {
  return new InputError((file) => `${file} goes on after the end of its rows at line ${line}.`, {
    accepted: "one JSON array, or JSON lines",
  });
}
