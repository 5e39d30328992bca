/** Tensors in safetensors files, read by ranges and written as streams, so that they never have to fit the host's memory. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { exists, readJsonObject, writeWhole } from "./_files.ts";
import {
  byteLength,
  DTYPES,
  MOST_TENSORS,
  openShard,
  readAt,
  type SafetensorsDtype,
  type Shard,
  type TensorInfo,
} from "./_safetensors_file.ts";
import { type Crc32, loadCrc32 } from "./crc32.ts";
import { type Checksums, crcText, type FileChecksum } from "./checksums.ts";
import { isFloatDtype, toF32 } from "./dtype.ts";

export type { SafetensorsDtype } from "./_safetensors_file.ts";

/**
 * The tensors of one model: a single file, or shards under `model.safetensors.index.json`. Headers are checked in
 * full when it is opened; the tensors are read when asked for.
 */
export class Checkpoint implements Disposable {
  readonly #shards: ReadonlyMap<string, Shard>;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  /** The file's own notes (`format: "pt"`); of shards, those of the first. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Of each tensor: the rows that were read in order from its first, and their CRC-32. */
  readonly #read = new Map<string, { rows: number; sum: number }>();
  /** Set where what is read is summed. */
  #crc32: Crc32 | null = null;

  private constructor(shards: readonly Shard[], tensors: ReadonlyMap<string, TensorInfo>) {
    this.#shards = new Map(shards.map((shard) => [shard.path, shard]));
    this.#tensors = tensors;
    this.metadata = shards[0]?.metadata ?? {};
  }

  /**
   * Opens a model folder: `model.safetensors`, or else the shards that `model.safetensors.index.json` names.
   *
   * @param dir Folder of the model's files
   * @throws InputError where neither is there or anything in them is malformed
   */
  static async open(dir: string): Promise<Checkpoint> {
    const single = join(dir, "model.safetensors");
    if (await exists(single)) return await Checkpoint.openFile(single);
    const index = join(dir, "model.safetensors.index.json");
    if (await exists(index)) return await openShards(dir, index, (...parts) => new Checkpoint(...parts));
    throw new InputError(
      `${basename(dir)} holds neither model.safetensors nor model.safetensors.index.json${await otherWeights(
        dir,
      )}.`,
      {
        path: [{ file: "model.safetensors" }],
        accepted:
          "weights as safetensors under transformers' names, as save_pretrained(folder) of transformers writes them",
      },
    );
  }

  /**
   * Opens one safetensors file.
   *
   * @throws InputError where it is missing or malformed
   */
  static async openFile(path: string): Promise<Checkpoint> {
    const shard = await openShard(path);
    return new Checkpoint([shard], shard.tensors);
  }

  /** Whether there is a tensor of this name. */
  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Every tensor's name, in the order of the files. */
  names(): string[] {
    return [...this.#tensors.keys()];
  }

  /**
   * Type, shape and place of a tensor.
   *
   * @throws InputError where there is none of this name
   */
  info(name: string): TensorInfo {
    const info = this.#tensors.get(name);
    if (info !== undefined) return info;
    throw new InputError(`The weights hold no tensor ${show(name)}.`, {
      path: [name],
      accepted: "a tensor of this name",
    });
  }

  /**
   * Reads rows of a tensor: slices along its first dimension.
   *
   * @param firstRow From 0
   * @param rowCount Rows to read
   * @returns The rows' bytes as they are stored, little-endian, in a buffer of their own
   * @throws InputError where the file has become shorter since it was opened
   * @throws RangeError where the tensor has no such rows
   */
  // deno-lint-ignore require-await -- errors as rejections
  async readRows(name: string, firstRow: number, rowCount: number): Promise<Uint8Array<ArrayBuffer>> {
    const { shape, begin, end, file } = this.info(name);
    const rows = shape[0] ?? 1;
    if (!(firstRow >= 0 && rowCount >= 0 && firstRow + rowCount <= rows)) {
      throw new RangeError(
        `${name} has ${rows} rows: rows ${firstRow} to ${firstRow + rowCount} are not among them.`,
      );
    }
    const rowBytes = rows === 0 ? 0 : (end - begin) / rows;
    const bytes = readAt(this.#shards.get(file)!, begin + firstRow * rowBytes, rowCount * rowBytes);
    if (this.#crc32) this.#sum(name, firstRow, rowCount, bytes);
    return bytes;
  }

  /** From now on what is read is summed, for {@link checksum}. */
  async startSums(): Promise<void> {
    this.#crc32 = await loadCrc32();
  }

  /** CRC-32 of all tensors that were read, each in order and to its end; null where one was not. */
  get checksum(): string | null {
    const sums: string[] = [];
    for (const [name, { rows, sum }] of [...this.#read].sort(([a], [b]) => a < b ? -1 : 1)) {
      if (rows !== (this.info(name).shape[0] ?? 1)) return null;
      sums.push(name, crcText(sum));
    }
    return sums.length === 0 ? null : crcText(this.#crc32!(sums.join()));
  }

  #sum(name: string, firstRow: number, rowCount: number, bytes: Uint8Array): void {
    const before = firstRow === 0 ? { rows: 0, sum: 0 } : this.#read.get(name);
    if (before?.rows !== firstRow) return void this.#read.set(name, { rows: -1, sum: 0 });
    this.#read.set(name, { rows: firstRow + rowCount, sum: this.#crc32!(bytes, before.sum) });
  }

  /** Reads a whole tensor. @returns Its bytes as they are stored. @throws InputError as readRows() */
  read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.readRows(name, 0, this.info(name).shape[0] ?? 1);
  }

  /**
   * Reads a whole tensor of F32, F16 or BF16 as f32.
   *
   * @throws InputError as readRows(), and where it is of another type
   */
  async readF32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (!isFloatDtype(dtype)) throw wrongDtype(name, dtype);
    return toF32(await this.read(name), dtype);
  }

  /**
   * A tensor that must be there, be of F32, F16 or BF16 and have this shape.
   *
   * @throws InputError naming the tensor and what is wrong with it
   */
  expect(name: string, shape: readonly number[]): TensorInfo & { readonly dtype: "F32" | "F16" | "BF16" } {
    const info = this.info(name);
    const { dtype } = info;
    if (!isFloatDtype(dtype)) throw wrongDtype(name, dtype);
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
      throw new InputError(
        `${name} has the shape [${info.shape}], but the configuration asks for [${shape}].`,
        {
          path: [name],
          value: info.shape,
          accepted: `the shape [${shape}]`,
        },
      );
    }
    return { ...info, dtype };
  }

  /** Closes the files; nothing can be read afterwards. */
  close(): void {
    for (const { file } of this.#shards.values()) file.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Whether a model folder has its weights, or an index of them with every shard. */
export async function holdsWeights(dir: string): Promise<boolean> {
  if (await exists(join(dir, "model.safetensors"))) return true;
  const index = join(dir, "model.safetensors.index.json");
  if (!await exists(index)) return false;
  const { weight_map } = await readJsonObject(index);
  const files = isObject(weight_map) ? new Set(Object.values(weight_map)) : [];
  for (const file of files) if (typeof file === "string" && !await exists(join(dir, file))) return false;
  return true;
}

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
 * @throws RangeError where a name comes twice or data are not of their shape's size
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
 * @throws RangeError as {@link writeSafetensors}
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
    const file = "model.safetensors";
    return { [file]: await writeSafetensors(join(dir, file), shards[0]!) };
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
  await writeWhole(join(dir, "model.safetensors.index.json"), [new TextEncoder().encode(index)]);
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

/** Files that hold a model's weights otherwise: pickled by torch, for llama.cpp, under their author's own names. */
const OTHER_WEIGHTS = /^(pytorch_model\S*\.bin|\S+\.gguf|consolidated\S*\.(safetensors|pth))$/;

/** What a folder without safetensors holds instead, as the end of a sentence. */
async function otherWeights(dir: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(dir), ({ name }) => name).catch(() => []);
  const other = names.filter((name) => OTHER_WEIGHTS.test(name)).sort()[0];
  return other === undefined ? "" : `, but ${other}, which must be converted first`;
}

/** Files of one model, of which each stays open. */
const MOST_SHARDS = 1000;

/** Reads and checks the index, opens every shard it names and checks that each tensor is where it says. */
async function openShards(
  dir: string,
  indexPath: string,
  make: (shards: readonly Shard[], tensors: ReadonlyMap<string, TensorInfo>) => Checkpoint,
): Promise<Checkpoint> {
  const index = basename(indexPath);
  const { weight_map } = await readJsonObject(indexPath);
  const refuse = (message: string, value: unknown, accepted: string): never => {
    throw new InputError((field) => `${field} ${message}`, {
      path: [{ file: index }, "weight_map"],
      value,
      accepted,
    });
  };
  if (!isObject(weight_map) || Object.keys(weight_map).length === 0) {
    return refuse(`is ${show(weight_map)}.`, weight_map, "an object from tensor names to file names");
  }
  const files = new Set(Object.values(weight_map)).size;
  if (files > MOST_SHARDS) refuse(`names ${files} files.`, files, `at most ${MOST_SHARDS} files`);
  const shards = new Map<string, Shard>();
  const tensors = new Map<string, TensorInfo>();
  let held = 0;
  try {
    for (const [name, file] of Object.entries(weight_map)) {
      if (typeof file !== "string" || !/^[^/\\\0]+$/.test(file) || file === "." || file === "..") {
        return refuse(
          `puts ${show(name)} into ${show(file)}.`,
          file,
          "the name of a file in the model's folder",
        );
      }
      let shard = shards.get(file);
      if (shard === undefined) {
        if (!await exists(join(dir, file))) {
          refuse(`names the shard ${show(file)}, which is missing.`, file, "a file that is there");
        }
        shard = await openShard(join(dir, file));
        shards.set(file, shard);
        held += shard.tensors.size;
        if (held > MOST_TENSORS) {
          refuse(`names files of more than ${MOST_TENSORS} tensors.`, held, "files of fewer");
        }
      }
      const info = shard.tensors.get(name) ??
        refuse(
          `puts ${show(name)} into ${show(file)}, which does not hold it.`,
          name,
          "a tensor that the shard holds",
        );
      tensors.set(name, info);
    }
    // A shard's tensors that the index does not name are left alone, as transformers does.
    return make([...shards.values()], tensors);
  } catch (error) {
    for (const { file } of shards.values()) file.close();
    throw error;
  }
}

function wrongDtype(name: string, dtype: SafetensorsDtype): InputError {
  return new InputError(`${name} is of the type ${dtype}, but weights must be F32, F16 or BF16.`, {
    path: [name],
    value: dtype,
    accepted: "F32, F16 or BF16",
  });
}
