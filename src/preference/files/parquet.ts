/** Rows of a Parquet file, a row group at a time. */
import { type Compressors, type FileMetaData, parquetMetadataAsync, parquetReadObjects } from "hyparquet";
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from "node:zlib";
import { InputError } from "../../errors.ts";
import { checkPages } from "./_parquet_crc.ts";
import { plainRow } from "./plain.ts";
import { type ChooseColumns, type FileRow, openDataFile, unreadable } from "./source_row.ts";

/** Beside UNCOMPRESSED and SNAPPY, which hyparquet knows, and LZ4. */
const DECOMPRESSORS = { ZSTD: zstdDecompressSync, GZIP: gunzipSync, BROTLI: brotliDecompressSync };
const LZ4 = ["LZ4", "LZ4_RAW"] as const;
const CODECS = ["UNCOMPRESSED", "SNAPPY", ...Object.keys(DECOMPRESSORS), ...LZ4];

const native = Object.fromEntries(
  Object.entries(DECOMPRESSORS).map(([codec, decompress]) => [
    codec,
    // The page's header says how long it is: a page that grows beyond that is malformed and must not fill the memory.
    (page: Uint8Array, bytes: number) => decompress(page, { maxOutputLength: Math.max(bytes, 1) }),
  ]),
);

/**
 * Streams a Parquet file's rows. Columns that are not chosen are not decoded.
 *
 * @throws {InputError} naming the file where it is missing, malformed, compressed otherwise, or a page has another CRC than the
 * file says
 */
export async function* readParquet(path: string, choose: ChooseColumns): AsyncGenerator<FileRow> {
  using source = await openSource(path);
  const metadata = await readMetadata(source);
  const columns = [...choose(topColumns(metadata))];
  const compressors = await compressorsOf(metadata, columns);
  let rowStart = 0;
  for (const group of metadata.row_groups) {
    const rowEnd = rowStart + Number(group.num_rows);
    const options = { file: source, metadata, columns, rowStart, rowEnd, compressors };
    const rows = await readable(() => {
      checkPages(source, group, columns);
      return parquetReadObjects(options);
    });
    for (const [index, row] of rows.entries()) {
      yield { row: rowStart + index + 1, value: plainRow(row) };
    }
    rowStart = rowEnd;
  }
}

/** How many rows a Parquet file has. @throws {InputError} as {@link readParquet} */
export async function parquetRows(path: string): Promise<number> {
  using source = await openSource(path);
  return Number((await readMetadata(source)).num_rows);
}

type Source = Awaited<ReturnType<typeof openSource>>;

/** Reads by ranges, as hyparquet asks for them. */
async function openSource(path: string) {
  const file = await openDataFile(path);
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
        if (read === null) throw new RangeError("it has become shorter");
        done += read;
      }
      return bytes.buffer;
    },
    [Symbol.dispose]: () => file.close(),
  };
}

function readMetadata(source: Source): Promise<FileMetaData> {
  return readable(() => parquetMetadataAsync(source));
}

async function readable<T>(read: () => Promise<T>): Promise<T> {
  try {
    return await read();
  } catch (error) {
    throw unreadable("Parquet", (error as Error).message);
  }
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

/** @throws {InputError} where a chosen column is compressed otherwise */
async function compressorsOf({ row_groups }: FileMetaData, chosen: readonly string[]): Promise<Compressors> {
  const codecs = new Set<string>();
  for (const { columns } of row_groups) {
    for (const { meta_data } of columns) {
      if (meta_data && chosen.includes(meta_data.path_in_schema[0] ?? "")) codecs.add(meta_data.codec);
    }
  }
  const unknown = [...codecs].find((codec) => !CODECS.includes(codec));
  if (unknown !== undefined) {
    const accepted = CODECS.join(" | ");
    throw new InputError((file) => `${file} is compressed with ${unknown}, but must be with ${accepted}.`, {
      value: unknown,
      accepted,
    });
  }
  if (!LZ4.some((codec) => codecs.has(codec))) return native;
  // Node has no LZ4.
  const { compressors } = await import("hyparquet-compressors");
  // A column of nulls alone has pages of no bytes, which the package takes for damaged ones.
  const raw = (page: Uint8Array, bytes: number) =>
    bytes === 0 ? new Uint8Array() : compressors.LZ4_RAW!(page, bytes);
  const lz4 = (page: Uint8Array, bytes: number) =>
    isHadoop(page, bytes) ? compressors.LZ4!(page, bytes) : raw(page, bytes);
  return { ...native, LZ4: lz4, LZ4_RAW: raw };
}

/** Whether a page is Hadoop's frames: lengths of text and block, and the block. The package does not end on damaged ones. */
function isHadoop(page: Uint8Array, bytes: number): boolean {
  const view = new DataView(page.buffer, page.byteOffset, page.length);
  let at = 0;
  let text = 0;
  while (at + 8 <= page.length) {
    text += view.getUint32(at);
    at += 8 + view.getUint32(at + 4);
  }
  return at === page.length && text === bytes;
}
