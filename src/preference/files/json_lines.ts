/** Rows of JSON lines. */
import { RowBytes } from "./_row_bytes.ts";
import type { FileRow } from "./source_row.ts";

const LINE_FEED = 0x0a;

/**
 * Reads a value a line; empty lines are skipped, and a row's number is its line's. Lines are cut as bytes, so that bad UTF-8
 * has a line number.
 */
export async function* readJsonLines(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<FileRow> {
  const bytes = new RowBytes();
  let line = 0;
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      bytes.add(chunk.subarray(start, end));
      start = end + 1;
      line++;
      const parsed = bytes.parse();
      if (parsed !== null) yield { row: line, ...parsed };
    }
    bytes.add(chunk.subarray(start));
  }
  const last = bytes.parse();
  if (last !== null) yield { row: line + 1, ...last };
}
