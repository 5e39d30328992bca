/** Writes tensors as safetensors files, from streams, so that they never have to fit the host's memory. */
import { join } from "node:path";
import { writeWhole } from "./_files.ts";
import { byteLength, DTYPES, INDEX_FILE, type SafetensorsDtype, WEIGHTS_FILE } from "./_safetensors_file.ts";
import { type Checksums, crcText, type FileChecksum } from "./checksums.ts";
import { type Crc32, loadCrc32 } from "./crc32.ts";

/** A tensor to be written. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** The elements' bytes, little-endian, or a stream of them in order, which is read once when their turn comes. */
  readonly data: Uint8Array | AsyncIterable<Uint8Array>;
}

/**
 * Writes a safetensors file, whole or not at all. The bytes are those that the format's own library would write:
 * tensors of wide types first, then by name, so the same tensors give the same file in whatever order they come.
 *
 * @param path Where the file shall be; an older one is replaced
 * @param tensors Each read once, in the file's order
 * @param metadata The file's own notes; transformers asks for `format: "pt"`
 * @returns the checksums of what was given, before the disk had it
 * @throws {RangeError} where a name comes twice or data are not of their shape's size
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<FileChecksum> {
  const ordered = [...tensors].sort((a, b) =>
    DTYPES.indexOf(b.dtype) - DTYPES.indexOf(a.dtype) || (a.name < b.name ? -1 : 1)
  );
  const header: [string, unknown][] = [["__metadata__", metadata]];
  const names = new Set(["__metadata__"]);
  let offset = 0;
  for (const { name, dtype, shape, data } of ordered) {
    const bytes = byteLength(dtype, shape);
    if (data instanceof Uint8Array && data.length !== bytes) {
      throw new RangeError(`${name} [${shape}] of ${dtype} takes ${bytes} bytes, not ${data.length}.`);
    }
    if (names.has(name)) {
      throw new RangeError(`A safetensors file cannot hold a tensor ${name} here: the name is taken.`);
    }
    names.add(name);
    header.push([name, { dtype, shape, data_offsets: [offset, offset += bytes] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const padded = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  padded.set(json, 8);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  const sums: Record<string, string> = {};
  const crc32 = await loadCrc32();
  await writeWhole(path, fileChunks(padded, ordered, sums, crc32));
  return { bytes: padded.length + offset, crc32: crcText(crc32(padded)), tensors: sums };
}

/** What a file of weights holds at most, as Hugging Face's libraries have it. */
const MAX_SHARD_BYTES = 5e9;

/**
 * Writes a model's weights as transformers does: `model.safetensors`, or where that were too large shards
 * (`model-00001-of-00002.safetensors`, …), then `model.safetensors.index.json`.
 *
 * @param dir An existing folder without weights
 * @param tensors In the model's order, which the shards keep
 * @param maxShardBytes What a shard's tensors take at most; a larger tensor has a shard of its own
 * @returns the checksums of the weights' files
 * @throws {RangeError} as {@link writeSafetensors}
 */
export async function writeModelWeights(
  dir: string,
  tensors: Iterable<TensorSource>,
  maxShardBytes = MAX_SHARD_BYTES,
): Promise<Checksums> {
  const shards: TensorSource[][] = [[]];
  let [shardBytes, total_size] = [0, 0];
  for (const tensor of tensors) {
    const bytes = byteLength(tensor.dtype, tensor.shape);
    if (shardBytes > 0 && shardBytes + bytes > maxShardBytes) {
      shards.push([]);
      shardBytes = 0;
    }
    shards.at(-1)!.push(tensor);
    shardBytes += bytes;
    total_size += bytes;
  }
  if (shards.length === 1) {
    return { [WEIGHTS_FILE]: await writeSafetensors(join(dir, WEIGHTS_FILE), shards[0]!) };
  }
  const sums: Record<string, FileChecksum> = {};
  const number = (n: number) => String(n).padStart(5, "0");
  const places: [string, string][] = [];
  for (const [i, shard] of shards.entries()) {
    const file = `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`;
    sums[file] = await writeSafetensors(join(dir, file), shard);
    places.push(...shard.map(({ name }): [string, string] => [name, file]));
  }
  const weight_map = Object.fromEntries(places.sort(([a], [b]) => a < b ? -1 : 1));
  const index = JSON.stringify({ metadata: { total_size }, weight_map }, null, 2) + "\n";
  await writeWhole(join(dir, INDEX_FILE), [new TextEncoder().encode(index)]);
  return sums;
}

/** @param sums gets each tensor's checksum */
async function* fileChunks(
  header: Uint8Array,
  tensors: readonly TensorSource[],
  sums: Record<string, string>,
  crc32: Crc32,
): AsyncGenerator<Uint8Array> {
  yield header;
  for (const { name, dtype, shape, data } of tensors) {
    let left = byteLength(dtype, shape);
    let sum = 0;
    for await (const chunk of data instanceof Uint8Array ? [data] : data) {
      left -= chunk.length;
      sum = crc32(chunk, sum);
      yield chunk;
    }
    sums[name] = crcText(sum);
    if (left !== 0) {
      throw new RangeError(
        `The stream of ${name} is ${Math.abs(left)} bytes too ${left > 0 ? "short" : "long"}.`,
      );
    }
  }
}
