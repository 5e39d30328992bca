/**
 * Zstd text of any number of frames. Deno's own streams stop silently after the first and where a file was cut, and end the
 * process where it is damaged.
 */
import { Decompress } from "fzstd";
import xxhash from "xxhash-wasm";

type Bytes = AsyncGenerator<Uint8Array<ArrayBuffer>>;

const MAGIC = 0xfd2fb528;
/** Most bytes that a frame may ask to look back: what the zstd command takes too. */
const MOST_WINDOW = 2 ** 27;

/**
 * Decompresses frame by frame and holds one block and one window.
 *
 * Source: https://www.rfc-editor.org/rfc/rfc8878
 *
 * @throws {Error} where a frame is cut, damaged (by its checksum, where it has one) or none
 */
export async function* unzstd(chunks: Bytes): Bytes {
  const take = taker(chunks);
  const { create64 } = await xxhash();
  for (let start = await take(4, true); start !== null; start = await take(4, true)) {
    const magic = uint(start);
    if ((magic & 0xfffffff0) >>> 0 === 0x184d2a50) {
      for (let left = uint(await take(4)); left > 0; left -= 2 ** 16) await take(Math.min(left, 2 ** 16));
      continue;
    }
    if (magic !== MAGIC) throw new Error("what follows a frame is none");

    let done: Uint8Array<ArrayBuffer>[] = [];
    const zstd = new Decompress((chunk) => done.push(chunk as Uint8Array<ArrayBuffer>));
    const hash = create64();
    const hashed = (): Uint8Array<ArrayBuffer>[] => {
      const chunks = done;
      done = [];
      for (const chunk of chunks) hash.update(chunk);
      return chunks;
    };
    const header = await takeHeader(take);
    zstd.push(start);
    zstd.push(header.bytes);
    for (let isLast = false; !isLast;) {
      const block = await take(3);
      const bits = uint(block);
      isLast = (bits & 1) === 1;
      zstd.push(block);
      // A block of one byte repeated is that byte.
      zstd.push(await take((bits >> 1 & 3) === 1 ? 1 : bits >> 3));
      yield* hashed();
    }
    const checksum = header.hasChecksum ? await take(4) : null;
    if (checksum !== null) zstd.push(checksum);
    zstd.push(new Uint8Array(), true);
    yield* hashed();
    if (checksum !== null && uint(checksum) !== Number(hash.digest() & 0xffffffffn)) {
      throw new Error("a frame's checksum is another");
    }
  }
}

/** What stands between a frame's magic number and its blocks. */
async function takeHeader(take: Take): Promise<{ bytes: Uint8Array<ArrayBuffer>; hasChecksum: boolean }> {
  const first = await take(1);
  const descriptor = first[0]!;
  const isSingle = (descriptor & 0x20) !== 0;
  const window = await take(isSingle ? 0 : 1);
  const dictionary = await take([0, 1, 2, 4][descriptor & 3]!);
  const size = await take([isSingle ? 1 : 0, 2, 4, 8][descriptor >> 6]!);
  const [exponent, mantissa] = [(window[0] ?? 0) >> 3, (window[0] ?? 0) & 7];
  const windowBytes = isSingle ? uint(size) : 2 ** (10 + exponent) * (1 + mantissa / 8);
  if (windowBytes > MOST_WINDOW) throw new Error(`a frame needs a window of ${windowBytes} bytes`);
  const bytes = Uint8Array.of(descriptor, ...window, ...dictionary, ...size);
  return { bytes, hasChecksum: (descriptor & 4) !== 0 };
}

/** Takes so many of the next bytes. @throws {Error} where there are fewer; none at all may be null */
interface Take {
  (count: number): Promise<Uint8Array<ArrayBuffer>>;
  (count: number, mayEnd: true): Promise<Uint8Array<ArrayBuffer> | null>;
}

function taker(chunks: Bytes): Take {
  let rest = new Uint8Array();
  async function take(count: number): Promise<Uint8Array<ArrayBuffer>>;
  async function take(count: number, mayEnd: true): Promise<Uint8Array<ArrayBuffer> | null>;
  async function take(count: number, mayEnd = false): Promise<Uint8Array<ArrayBuffer> | null> {
    const bytes = new Uint8Array(count);
    for (let at = 0; at < count;) {
      if (rest.length === 0) {
        const { value, done } = await chunks.next();
        if (done && at === 0 && mayEnd) return null;
        if (done) throw new Error("it ends in the middle of a frame");
        rest = value;
      }
      const part = rest.subarray(0, count - at);
      bytes.set(part, at);
      at += part.length;
      rest = rest.subarray(part.length);
    }
    return bytes;
  }
  return take;
}

/** A little-endian whole number. */
function uint(bytes: Uint8Array): number {
  return bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
}
