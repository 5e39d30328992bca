/** Archives of files in the tar format, read from any byte on: no more than a chunk is in memory. */
import { createTarPacker } from "modern-tar";
import { join } from "node:path";

/** A file for an archive. */
export interface TarFile {
  /** Path in the archive, parted by `/`. */
  readonly name: string;
  /** Where its content is read from. */
  readonly path: string;
}

/** An archive that is made while it is read. */
export interface TarArchive {
  /** Size of the whole archive, for a Content-Length. */
  readonly byteLength: number;
  /**
   * 64 hexadecimal digits that change with the archive's bytes: a hash of the names, sizes and times of change of its
   * files, whose contents are not read for it.
   */
  readonly version: string;
  /**
   * Bytes `begin` to `end` (exclusive) of the archive, all of them unless given; the files are opened one after another
   * as the stream is read. It fails where a file's size changes before it has been read.
   */
  stream(begin?: number, end?: number): ReadableStream<Uint8Array<ArrayBuffer>>;
}

const BLOCK = 512;
/** What ends an archive. */
const END_BYTES = 2 * BLOCK;
const CHUNK_BYTES = 1 << 18;

/**
 * Puts files into one archive. Time stamps and owners are left out, so the same files give the same bytes. What ustar
 * cannot say, such as a size of 8 GiB or more, stands in a pax header (POSIX.1-2001) before the file's own.
 *
 * @param files In the archive's order
 * @throws Deno.errors.NotFound where a file is missing
 *
 * @example Answer with an archive
 * ```ts
 * import assert from "node:assert/strict";
 * import { fileURLToPath } from "node:url";
 * import { openTar } from "./tar.ts";
 * const { stream, byteLength } = await openTar([{ name: "src/tar.ts", path: fileURLToPath(import.meta.resolve("./tar.ts")) }]);
 * const response = new Response(stream(), { headers: { "content-length": `${byteLength}` } });
 * assert.equal((await response.arrayBuffer()).byteLength, byteLength);
 * ```
 */
export async function openTar(files: readonly TarFile[]): Promise<TarArchive> {
  const parts: Part[] = [];
  const changed: unknown[] = [];
  for (const { name, path } of files) {
    const { size, mtime } = await Deno.stat(path);
    changed.push([name, size, mtime]);
    const padding = -size & (BLOCK - 1);
    parts.push(await tarHeader(name, size), { name, path, length: size }, new Uint8Array(padding));
  }
  parts.push(new Uint8Array(END_BYTES));
  const byteLength = parts.reduce((sum, { length }) => sum + length, 0);
  const text = new TextEncoder().encode(JSON.stringify(changed));
  return {
    byteLength,
    version: new Uint8Array(await crypto.subtle.digest("SHA-256", text)).toHex(),
    stream: (begin = 0, end = byteLength) => ReadableStream.from(slice(parts, begin, end)),
  };
}

/**
 * Puts a folder's own files, by their names' order, into one archive; what is in folders under it is left out.
 *
 * @param leftOut names of files that are left out too
 */
export async function openFolderAsTar(folder: string, leftOut: readonly string[] = []): Promise<TarArchive> {
  const entries = await Array.fromAsync(Deno.readDir(folder));
  const kept = entries.filter(({ name, isFile }) => isFile && !leftOut.includes(name));
  const names = kept.map(({ name }) => name).sort();
  return await openTar(names.map((name) => ({ name, path: join(folder, name) })));
}

/** Bytes of an archive that are there, or that are read from a file. */
type Part = Uint8Array<ArrayBuffer> | TarFile & { readonly length: number };

async function* slice(
  parts: readonly Part[],
  begin: number,
  end: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  let at = 0;
  for (const part of parts) {
    const [from, to] = [Math.max(begin - at, 0), Math.min(end - at, part.length)];
    at += part.length;
    if (from >= to) continue;
    if (part instanceof Uint8Array) yield part.slice(from, to);
    else yield* readFile(part, from, to);
  }
}

async function* readFile(
  { name, path, length }: TarFile & { readonly length: number },
  begin: number,
  end: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>> {
  using file = await Deno.open(path);
  const changed = () => new Error(`${name} has changed since the archive was opened.`);
  if ((await file.stat()).size !== length) throw changed();
  await file.seek(begin, Deno.SeekMode.Start);
  for (let left = end - begin; left > 0;) {
    const chunk = new Uint8Array(Math.min(left, CHUNK_BYTES));
    const count = await file.read(chunk);
    if (count === null) throw changed();
    left -= count;
    yield chunk.subarray(0, count);
  }
}

/** The blocks before a file's content: its header, after a pax header where it needs one. */
async function tarHeader(name: string, size: number): Promise<Uint8Array<ArrayBuffer>> {
  const { readable, controller } = createTarPacker();
  controller.add({ name, size, mtime: new Date(0), mode: 0o644, uid: 0, gid: 0 });
  const reader = readable.getReader();
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  // The packer has put all of them into its queue, and waits for the content.
  while (!isHeaderOfFile(blocks.at(-1))) blocks.push((await reader.read()).value!);
  await reader.cancel();
  return new Uint8Array(await new Blob(blocks).arrayBuffer());
}

function isHeaderOfFile(block: Uint8Array | undefined): boolean {
  return block?.length === BLOCK && block[156] === "0".charCodeAt(0);
}
