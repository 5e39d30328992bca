import { joined } from "../../bytes.ts";
import { parseJson } from "./parse_json.ts";
import { type FileRow, MOST_ROW_BYTES, TOO_LONG } from "./source_row.ts";

/** Bytes of one row of JSON, as they come; those of a row that is too long are not held. */
export class RowBytes {
  #parts: Uint8Array[] = [];
  #length = 0;

  add(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > MOST_ROW_BYTES) this.#parts = [];
    else if (part.length > 0) this.#parts.push(part);
  }

  /** The row, and begins the next. @returns null where it is nothing but white space */
  parse(): Omit<FileRow, "row"> | null {
    const parsed = this.#length > MOST_ROW_BYTES ? { problem: TOO_LONG } : parseJson(joined(this.#parts));
    this.#parts = [];
    this.#length = 0;
    return parsed;
  }
}
