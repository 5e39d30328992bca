import { type FileMetaData } from "hyparquet";
import { parquetHeader } from "hyparquet/src/column.js";
import { crc32 } from "node:zlib";

/** Most bytes of a page's header; its statistics may be long. */
const HEADER_BYTES = 2 ** 16;

/** A file that is read by ranges. */
interface Source {
  slice(start: number, end?: number): ArrayBuffer;
}

/**
 * Compares the pages of a row group with their checksums, of the columns that are read, where the file has any: hyparquet
 * reads the sums and does not look at them. A sum is that of a page as it is stored, after its header.
 *
 * @throws {Error} at the first page with another
 * @see https://parquet.apache.org/docs/file-format/data-pages/checksumming/
 */
export function checkPages(
  source: Source,
  { columns }: FileMetaData["row_groups"][number],
  chosen: readonly string[],
): void {
  for (const { meta_data } of columns) {
    if (!meta_data || !chosen.includes(meta_data.path_in_schema[0] ?? "")) continue;
    const start = Number(meta_data.dictionary_page_offset || meta_data.data_page_offset);
    const end = start + Number(meta_data.total_compressed_size);
    for (let at = start, page = 0; at < end; page++) {
      const view = new DataView(source.slice(at, Math.min(at + HEADER_BYTES, end)));
      const reader = { view, offset: 0 };
      const { crc, compressed_page_size } = parquetHeader(reader);
      if (crc === undefined) break; // whoever writes sums writes them for all pages
      const begin = at + reader.offset;
      at = begin + compressed_page_size;
      if (!(compressed_page_size >= 0 && at <= end)) throw new Error("a page is longer than its column");
      if (crc32(new Uint8Array(source.slice(begin, at))) === crc >>> 0) continue;
      const name = meta_data.path_in_schema.join(".");
      throw new Error(`page ${page} of the column ${name} at byte ${begin} has another CRC than was written`);
    }
  }
}
