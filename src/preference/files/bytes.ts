/** A file's bytes in order, decompressed where they are gzip or zstd. */
import { InputError } from "../../errors.ts";
import { openDataFile, unreadable } from "./source_row.ts";

type Bytes = AsyncGenerator<Uint8Array<ArrayBuffer>>;

/**
 * Streams a file's bytes. That they are compressed is told by how they begin and not by the name, as some tools decompress
 * a file and keep its name.
 *
 * @throws InputError where the file is missing, damaged or UTF-16
 */
export async function* readBytes(path: string): Bytes {
  const file = await openDataFile(path);
  const chunks = file.readable.values();
  try {
    const { value: first } = await chunks.next();
    if (first === undefined) return;
    const all = chain(first, chunks);
    const text = begins(first, 0x1f, 0x8b) ? gunzip(all) : isZstd(first) ? unzstd(all) : all;
    let start = true;
    for await (const chunk of text) {
      if (start && (begins(chunk, 0xff, 0xfe) || begins(chunk, 0xfe, 0xff))) {
        throw new InputError((name) => `${name} is UTF-16, but must be UTF-8.`, {
          path: [],
          accepted: "text in UTF-8",
        });
      }
      start &&= chunk.length === 0;
      yield chunk;
    }
  } finally {
    await chunks.return?.();
  }
}

/** A chunk and those after it. */
export async function* chain(
  first: Uint8Array<ArrayBuffer>,
  rest: AsyncIterable<Uint8Array<ArrayBuffer>>,
): Bytes {
  yield first;
  yield* rest;
}

function begins(bytes: Uint8Array, ...start: number[]): boolean {
  return start.every((byte, i) => bytes[i] === byte);
}

/** A frame's magic number, or a skippable one's. */
function isZstd(bytes: Uint8Array): boolean {
  return begins(bytes, 0x28, 0xb5, 0x2f, 0xfd) ||
    (bytes[0] ?? 0) >> 4 === 5 && begins(bytes.subarray(1), 0x2a, 0x4d, 0x18);
}

/** Of any number of members, which `DecompressionStream` does not read. */
async function* gunzip(chunks: Bytes): Bytes {
  const [{ createGunzip }, { Readable }, { pipeline }] = await Promise.all([
    import("node:zlib"),
    import("node:stream"),
    import("node:stream/promises"),
  ]);
  const text = createGunzip();
  const done = pipeline(Readable.from(chunks), text);
  done.catch(() => {}); // heard of where the text is read
  let bytes = 0;
  try {
    for await (const chunk of text) {
      bytes += chunk.length;
      yield chunk;
    }
  } catch (error) {
    throw damaged("gzip", bytes, error);
  } finally {
    await done.catch(() => {});
  }
}

/**
 * Of any number of frames. Deno's own zstd stream stops silently after the first, and at the end of a file that was cut.
 * A frame's checksum is not compared.
 */
async function* unzstd(chunks: Bytes): Bytes {
  const { Decompress } = await import("fzstd");
  let done: Uint8Array<ArrayBuffer>[] = [];
  let bytes = 0;
  const zstd = new Decompress((chunk) => done.push(chunk as Uint8Array<ArrayBuffer>));
  const push = (chunk: Uint8Array, last: boolean) => {
    try {
      zstd.push(chunk, last);
    } catch (error) {
      throw damaged("zstd", bytes, error);
    }
  };
  for await (const chunk of chain(new Uint8Array(), chunks)) {
    push(chunk, false);
    for (const text of done) bytes += text.length;
    yield* done;
    done = [];
  }
  push(new Uint8Array(), true);
  yield* done;
}

function damaged(kind: string, bytes: number, error: unknown): unknown {
  if (error instanceof InputError) return error;
  return unreadable(kind, `${(error as Error).message}, after ${bytes} bytes of text`);
}
