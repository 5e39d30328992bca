/** Rows of a JSONL file, a line at a time. */
import type { SourceRow } from "./data_files.ts";
import { missingDataFile } from "./rows.ts";

/**
 * Streams a JSONL file's rows; empty lines are skipped, and a row's number is its line's.
 *
 * @param rowsBefore Rows of the data set in front of this file, added to its rows' numbers
 * @throws InputError where the file is missing
 */
export async function* readJsonl(path: string, rowsBefore = 0): AsyncGenerator<SourceRow> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  for await (const { bytes, line } of readLines(path)) {
    const row = rowsBefore + line;
    let value: unknown;
    try {
      const text = decoder.decode(bytes);
      if (text.trim() === "") continue;
      value = JSON.parse(text);
    } catch (error) {
      const what = error instanceof SyntaxError ? `JSON: ${error.message}` : "UTF-8.";
      yield { row, problem: `is not ${what}` };
      continue;
    }
    yield { row, value };
  }
}

/** A file's lines as bytes, numbered from 1, without their line feeds: bytes, so that bad UTF-8 has a line number. */
async function* readLines(path: string): AsyncGenerator<{ bytes: Uint8Array; line: number }> {
  let file: Deno.FsFile;
  try {
    file = await Deno.open(path);
  } catch (error) {
    throw missingDataFile(path, error);
  }
  let line = 1;
  let begun: Uint8Array[] = [];
  for await (const chunk of file.readable) {
    let start = 0;
    for (let end = chunk.indexOf(0x0a); end >= 0; end = chunk.indexOf(0x0a, start)) {
      yield { bytes: joined([...begun, chunk.subarray(start, end)]), line: line++ };
      begun = [];
      start = end + 1;
    }
    if (start < chunk.length) begun.push(chunk.subarray(start));
  }
  if (begun.length > 0) yield { bytes: joined(begun), line };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  if (parts.length === 1 && parts[0] !== undefined) return parts[0];
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
