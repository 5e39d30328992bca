/** Rows of a Parquet file, a row group at a time. */
import { type FileMetaData, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { basename } from "node:path";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { InputError } from "../errors.ts";
import type { SourceRow } from "./data_files.ts";
import { knownColumns, missingDataFile } from "./rows.ts";

/** Beside UNCOMPRESSED and SNAPPY, which hyparquet knows. */
const DECOMPRESSORS = { ZSTD: zstdDecompressSync, GZIP: gunzipSync, BROTLI: brotliDecompressSync };
const CODECS = ["UNCOMPRESSED", "SNAPPY", ...Object.keys(DECOMPRESSORS)];

const compressors = Object.fromEntries(
  Object.entries(DECOMPRESSORS).map(([codec, decompress]) => [
    codec,
    // The page's header says how long it is: a page that grows beyond that is malformed and must not fill the memory.
    (page: Uint8Array, bytes: number) => decompress(page, { maxOutputLength: Math.max(bytes, 1) }),
  ]),
);

/**
 * Streams a Parquet file's rows. Columns are strings, message lists are lists of structs. A null is a missing value, as
 * in a struct each of whose rows must have every row's keys.
 *
 * @param rowsBefore Rows of the data set in front of this file: its first row has the number after
 * @throws InputError naming the file where it is missing, malformed or compressed otherwise, or the row that is not one
 */
export async function* readParquet(
  path: string,
  rowsBefore = 0,
): AsyncGenerator<SourceRow> {
  using source = openSource(path);
  const metadata = await readable(() => parquetMetadataAsync(source));
  const columns = wantedColumns(metadata);
  checkCodecs(metadata);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const options = { file: source, metadata, columns, rowStart, rowEnd, compressors };
    const rows = await readable(() => parquetReadObjects(options));
    for (const [index, row] of rows.entries()) {
      const number = rowsBefore + rowStart + index + 1;
      yield { row: number, value: withoutNulls(row) };
    }
    rowStart = rowEnd;
  }
}

/** Reads by ranges, as hyparquet asks for them. */
function openSource(path: string) {
  const name = basename(path);
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    throw missingDataFile(path, error);
  }
  const { size } = file.statSync();
  return {
    byteLength: size,
    // Without an await between the two, so that ranges asked for at once do not move each other's place.
    slice(start: number, end = size): ArrayBuffer {
      if (!(start >= 0 && start <= end && end <= size)) {
        throw new RangeError(`bytes ${start} to ${end} are not in the file`);
      }
      const bytes = new Uint8Array(end - start);
      file.seekSync(start, Deno.SeekMode.Start);
      for (let done = 0; done < bytes.length;) {
        const read = file.readSync(bytes.subarray(done));
        if (read === null) throw new RangeError(`${name} has become shorter`);
        done += read;
      }
      return bytes.buffer;
    },
    [Symbol.dispose]: () => file.close(),
  };
}

async function readable<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw new InputError((file) => `${file} is not a readable Parquet file: ${(error as Error).message}.`, {
      path: [],
      accepted: "a whole Parquet file",
    });
  }
}

function wantedColumns(metadata: FileMetaData): string[] {
  const columns = topColumns(metadata);
  const wanted = columns.filter((column) => knownColumns.includes(column));
  if (wanted.length > 0) return wanted;
  throw new InputError(
    (file) => `${file} has only the columns ${columns.join(", ") || "of an empty schema"}.`,
    {
      path: [],
      value: columns,
      accepted: `columns among ${knownColumns.join(", ")}`,
    },
  );
}

/** The schema is a tree written in depth-first order; its root comes first. */
function topColumns({ schema }: FileMetaData): string[] {
  const columns: string[] = [];
  const skip = (index: number): number => {
    let next = index + 1;
    for (let child = 0; child < (schema[index]?.num_children ?? 0); child++) next = skip(next);
    return next;
  };
  for (let index = 1; index < schema.length; index = skip(index)) columns.push(schema[index]!.name);
  return columns;
}

function checkCodecs(metadata: FileMetaData): void {
  for (const { columns } of metadata.row_groups) {
    for (const { meta_data } of columns) {
      const codec = meta_data?.codec;
      if (codec === undefined || CODECS.includes(codec)) continue;
      const accepted = CODECS.join(" | ");
      throw new InputError((file) => `${file} is compressed with ${codec}, but must be with ${accepted}.`, {
        path: [],
        value: codec,
        accepted,
      });
    }
  }
}

/** Drops nulls at any depth. Whole numbers of 64 bits, as message keys may hold, become numbers. */
function withoutNulls(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (Array.isArray(value)) return value.map(withoutNulls);
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).filter(([, inner]) => inner != null).map((
      [key, inner],
    ) => [key, withoutNulls(inner)]),
  );
}
