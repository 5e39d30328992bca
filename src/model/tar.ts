/** Archives of files in the ustar format (POSIX.1-1988), made as a stream: no more than a chunk is in memory. */

/** A file for an archive. */
export interface TarFile {
  /** Path in the archive, parted by `/`: at most 100 bytes, or 255 where a `/` parts it into 155 and 100. */
  readonly name: string;
  /** Where its content is read from. */
  readonly path: string;
}

/** An archive that is made while it is read. */
export interface TarArchive {
  /** Size of the whole archive, for a Content-Length. */
  readonly byteLength: number;
  /** The archive; the files are opened one after another as it is read. */
  readonly stream: ReadableStream<Uint8Array<ArrayBuffer>>;
}

const BLOCK = 512;
/** What eleven octal digits can say. */
const MAX_FILE_BYTES = 8 ** 11 - 1;

/**
 * Puts files into one archive. Time stamps and owners are left out, so the same files give the same archive.
 *
 * @param files In the archive's order
 * @returns The archive; its stream fails where a file's size changes before it has been read
 * @throws RangeError for a name that ustar cannot hold, or a file of 8 GiB or more
 * @throws Deno.errors.NotFound where a file is missing
 *
 * @example Answer with two files
 * ```ts
 * import { openTar } from "./tar.ts";
 * const { stream, byteLength } = await openTar([{ name: "adapter/adapter_config.json", path: "/tmp/a.json" }]);
 * const response = new Response(stream, { headers: { "content-length": `${byteLength}` } });
 * ```
 */
export async function openTar(files: readonly TarFile[]): Promise<TarArchive> {
  const entries: Entry[] = [];
  let byteLength = 2 * BLOCK;
  for (const { name, path } of files) {
    const { size } = await Deno.stat(path);
    entries.push({ name, path, size, header: tarHeader(name, size) });
    byteLength += BLOCK + size + padding(size);
  }
  return { byteLength, stream: ReadableStream.from(tarChunks(entries)) };
}

interface Entry extends TarFile {
  readonly size: number;
  readonly header: Uint8Array<ArrayBuffer>;
}

async function* tarChunks(entries: readonly Entry[]): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  for (const { name, path, size, header } of entries) {
    yield header;
    let left = size;
    using file = await Deno.open(path);
    while (left > 0) {
      const chunk = new Uint8Array(Math.min(left, 1 << 18));
      const count = await file.read(chunk);
      if (count === null) throw new Error(`${name} became shorter while it was put into the archive.`);
      left -= count;
      yield chunk.subarray(0, count);
    }
    if (padding(size) > 0) yield new Uint8Array(padding(size));
  }
  yield new Uint8Array(2 * BLOCK);
}

/** Bytes from the end of a file's content to the next block. */
function padding(size: number): number {
  return (BLOCK - size % BLOCK) % BLOCK;
}

function tarHeader(name: string, size: number): Uint8Array<ArrayBuffer> {
  if (size > MAX_FILE_BYTES) {
    throw new RangeError(`${name} has ${size} bytes: a ustar archive holds less than 8 GiB a file.`);
  }
  const header = new Uint8Array(BLOCK);
  const encoder = new TextEncoder();
  const put = (offset: number, text: string): void => header.set(encoder.encode(text), offset);
  const octal = (value: number, digits: number): string => value.toString(8).padStart(digits, "0");
  const [prefix, rest] = splitName(name);
  put(0, rest);
  put(100, octal(0o644, 7)); // mode
  put(108, octal(0, 7)); // user
  put(116, octal(0, 7)); // group
  put(124, octal(size, 11));
  put(136, octal(0, 11)); // time
  put(148, " ".repeat(8)); // the checksum counts itself as blanks
  put(156, "0"); // a regular file
  put(257, "ustar\x0000");
  put(345, prefix);
  put(148, `${octal(header.reduce((sum, byte) => sum + byte, 0), 6)}\0 `);
  return header;
}

/** Parts a name into ustar's prefix (155 bytes) and name (100 bytes), at a slash that is not stored. */
function splitName(name: string): [prefix: string, rest: string] {
  const bytes = (text: string): number => new TextEncoder().encode(text).length;
  if (name !== "" && bytes(name) <= 100) return ["", name];
  for (let slash = name.indexOf("/"); slash > 0; slash = name.indexOf("/", slash + 1)) {
    const [prefix, rest] = [name.slice(0, slash), name.slice(slash + 1)];
    if (bytes(prefix) > 155) break;
    if (rest !== "" && bytes(rest) <= 100) return [prefix, rest];
  }
  throw new RangeError(
    `The name ${JSON.stringify(name)} does not fit a ustar archive: 1 to 255 bytes, parted by a slash.`,
  );
}
