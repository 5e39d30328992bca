/** Rows of JSON lines. */
import { parseJson } from "./parse_json.ts";
import { type FileRow, MOST_ROW_BYTES, TOO_LONG } from "./source_row.ts";

/** Reads a value a line; empty lines are skipped, and a row's number is its line's. */
export async function* readJsonLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<FileRow> {
  for await (const { bytes, line } of readLines(chunks)) {
    const parsed = bytes === null ? { problem: TOO_LONG } : parseJson(bytes);
    if (parsed !== null) yield { row: line, ...parsed };
  }
}

/**
 * Lines as bytes, numbered from 1, without their line feeds: bytes, so that bad UTF-8 has a line number. Null stands for a
 * line that is too long to be held.
 */
async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
): AsyncGenerator<{ bytes: Uint8Array | null; line: number }> {
  let line = 1;
  let begun: Uint8Array[] = [];
  let length = 0;
  const take = (part: Uint8Array) => {
    length += part.length;
    if (length <= MOST_ROW_BYTES) begun.push(part);
    else begun = [];
  };
  const whole = () => {
    const bytes = length <= MOST_ROW_BYTES ? joined(begun) : null;
    begun = [];
    length = 0;
    return { bytes, line: line++ };
  };
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      take(chunk.subarray(start, end));
      yield whole();
      start = end + 1;
    }
    if (start < chunk.length) take(chunk.subarray(start));
  }
  if (length > 0) yield whole();
}

/** Parts of a text as one. */
export function joined(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  if (parts.length === 1) return parts[0] as Uint8Array<ArrayBuffer>;
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
