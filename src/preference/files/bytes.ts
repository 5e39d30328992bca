/** A file's bytes in order, decompressed where they are gzip or zstd. */
import { InputError } from "../../errors.ts";
import { openDataFile, unreadable } from "./source_row.ts";

type Bytes = AsyncGenerator<Uint8Array<ArrayBuffer>>;

/**
 * Streams a file's bytes. That they are compressed is told by how they begin and not by the name, as some tools decompress
 * a file and keep its name.
 *
 * @throws {InputError} where the file is missing, damaged or UTF-16
 */
export async function* readBytes(path: string): Bytes {
  const file = await openDataFile(path);
  const chunks = file.readable.values();
  try {
    const { value: first } = await chunks.next();
    if (first === undefined) return;
    const all = chain(first, chunks);
    const text = begins(first, 0x1f, 0x8b)
      ? decompressed("gzip", gunzip(all))
      : isZstd(first)
      ? decompressed("zstd", unzstd(all))
      : all;
    let start = true;
    for await (const chunk of text) {
      if (start && (begins(chunk, 0xff, 0xfe) || begins(chunk, 0xfe, 0xff))) {
        throw new InputError((name) => `${name} is UTF-16, but must be UTF-8.`, {
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
  try {
    yield* text;
  } finally {
    await done.catch(() => {});
  }
}

async function* unzstd(chunks: Bytes): Bytes {
  yield* (await import("./zstd.ts")).unzstd(chunks);
}

/** A compressed text; that it is damaged is told with how far it went. */
async function* decompressed(kind: "gzip" | "zstd", text: Bytes): Bytes {
  let bytes = 0;
  try {
    for await (const chunk of text) {
      bytes += chunk.length;
      yield chunk;
    }
  } catch (error) {
    throw unreadable(kind, `${(error as Error).message}, after ${bytes} bytes of text`);
  }
}
