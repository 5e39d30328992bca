/** Hugging Face's safetensors files, read by ranges and written as streams, so that weights never have to fit the
 * host's memory. Format: an 8-byte little-endian header length, a JSON header, then the tensors without a hole. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { exists, missingFile, readJsonObject, writeWhole } from "./_files.ts";
import { isFloatDtype, toF32 } from "./dtype.ts";

/** Bytes of an element, in the order in which the format's own library lays tensors of different types (wide last). */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
const DTYPES = Object.keys(DTYPE_BYTES);

/** Element types of the format whose elements are whole bytes. */
export type SafetensorsDtype = keyof typeof DTYPE_BYTES;

/** Where a tensor lies. */
export interface TensorInfo {
  readonly dtype: SafetensorsDtype;
  /** Row-major; [] is a scalar. */
  readonly shape: readonly number[];
  /** Absolute path of the file that holds it. */
  readonly file: string;
  /** First byte, counted from the file's start. */
  readonly begin: number;
  /** The byte after the last. */
  readonly end: number;
}

/** Headers above this are refused, as the format's own library does. */
const MAX_HEADER_BYTES = 100_000_000;

/** One opened file. */
interface Shard {
  readonly path: string;
  readonly file: Deno.FsFile;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: Readonly<Record<string, string>>;
}

/**
 * The tensors of one model: a single file, or shards under `model.safetensors.index.json`. Headers are checked in
 * full when it is opened; the tensors are read when asked for.
 */
export class Checkpoint implements Disposable {
  readonly #shards: ReadonlyMap<string, Shard>;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  /** The file's own notes (`format: "pt"`); of shards, those of the first. */
  readonly metadata: Readonly<Record<string, string>>;

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
      `${basename(dir)} holds neither model.safetensors nor model.safetensors.index.json.`,
      {
        field: "model.safetensors",
        accepted: "weights as safetensors; a pytorch_model.bin must be converted first",
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
      field: name,
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
    return readAt(this.#shards.get(file)!, begin + firstRow * rowBytes, rowCount * rowBytes);
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
          field: name,
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
 * @throws RangeError where a name comes twice or data are not of their shape's size
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorSource>,
  metadata: Readonly<Record<string, string>> = { format: "pt" },
): Promise<void> {
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
  await writeWhole(path, fileChunks(padded, ordered));
}

async function* fileChunks(header: Uint8Array, tensors: readonly TensorSource[]): AsyncGenerator<Uint8Array> {
  yield header;
  for (const { name, dtype, shape, data } of tensors) {
    let left = byteLength(dtype, shape);
    for await (const chunk of data instanceof Uint8Array ? [data] : data) {
      left -= chunk.length;
      yield chunk;
    }
    if (left !== 0) {
      throw new RangeError(
        `The stream of ${name} is ${Math.abs(left)} bytes too ${left > 0 ? "short" : "long"}.`,
      );
    }
  }
}

function byteLength(dtype: SafetensorsDtype, shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, DTYPE_BYTES[dtype] as number);
}

/** Reads and checks the index, opens every shard it names and checks that each tensor is where it says. */
async function openShards(
  dir: string,
  indexPath: string,
  make: (shards: readonly Shard[], tensors: ReadonlyMap<string, TensorInfo>) => Checkpoint,
): Promise<Checkpoint> {
  const index = basename(indexPath);
  const { weight_map } = await readJsonObject(indexPath);
  const refuse = (message: string, value: unknown, accepted: string): never => {
    throw new InputError(`${index}: ${message}`, { field: `${index}: weight_map`, value, accepted });
  };
  if (!isObject(weight_map) || Object.keys(weight_map).length === 0) {
    return refuse(
      `weight_map is ${show(weight_map)}.`,
      weight_map,
      "an object from tensor names to file names",
    );
  }
  const shards = new Map<string, Shard>();
  const tensors = new Map<string, TensorInfo>();
  try {
    for (const [name, file] of Object.entries(weight_map)) {
      if (typeof file !== "string" || !/^[^/\\\0]+$/.test(file) || file === "." || file === "..") {
        return refuse(
          `${show(name)} is said to be in ${show(file)}.`,
          file,
          "the name of a file in the model's folder",
        );
      }
      let shard = shards.get(file);
      if (shard === undefined) {
        if (!await exists(join(dir, file))) {
          refuse(`the shard ${show(file)} is missing.`, file, "a file that is there");
        }
        shard = await openShard(join(dir, file));
        shards.set(file, shard);
      }
      const info = shard.tensors.get(name) ??
        refuse(
          `the shard ${show(file)} holds no tensor ${show(name)}.`,
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

async function openShard(path: string): Promise<Shard> {
  let file: Deno.FsFile;
  try {
    // Looked at before it is opened: opening a named pipe would wait for its writer.
    if (!(await Deno.stat(path)).isFile) throw new Deno.errors.IsADirectory();
    file = await Deno.open(path);
  } catch (error) {
    throw missingFile(path, error);
  }
  try {
    const { size } = await file.stat();
    return { path, file, ...readHeader(path, file, size) };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads and checks the header: the tensors must fill the file after it without overlap or hole. */
function readHeader(path: string, file: Deno.FsFile, size: number): Pick<Shard, "tensors" | "metadata"> {
  const name = basename(path);
  const refuse = (message: string, accepted: string, value?: unknown): never => {
    throw new InputError(`${name} ${message}.`, { field: name, value, accepted });
  };
  if (size < 8) refuse(`has ${size} bytes, too few for a safetensors file`, "a whole safetensors file", size);
  const shard = { path, file };
  const length = new DataView(readAt(shard, 0, 8).buffer).getBigUint64(0, true);
  if (length > MAX_HEADER_BYTES || length > size - 8) {
    const limit = Math.min(MAX_HEADER_BYTES, size - 8);
    refuse(
      `announces a header of ${length} bytes, but it can have at most ${limit}`,
      "a whole safetensors file",
      `${length}`,
    );
  }
  const start = 8 + Number(length);
  let header: unknown;
  try {
    header = JSON.parse(
      new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readAt(shard, 8, start - 8)),
    );
  } catch {
    refuse("has a header that is not JSON", "a safetensors file");
  }
  if (!isObject(header)) return refuse("has a header that is no JSON object", "a safetensors file", header);

  const { __metadata__: metadata = {}, ...entries } = header;
  if (!isObject(metadata) || !Object.values(metadata).every((value) => typeof value === "string")) {
    refuse(`has a __metadata__ of ${show(metadata)}`, "an object of strings", metadata);
  }
  const tensors = Object.entries(entries).map(([tensor, entry]): [string, TensorInfo] => {
    const { dtype, shape, data_offsets: offsets } = isObject(entry) ? entry : {};
    if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
      return refuse(`gives ${tensor} the type ${show(dtype)}`, `one of ${DTYPES.join(", ")}`, dtype);
    }
    if (!isCounts(shape)) {
      return refuse(`gives ${tensor} the shape ${show(shape)}`, "a list of whole numbers >= 0", shape);
    }
    if (!isCounts(offsets) || offsets.length !== 2 || offsets[0]! > offsets[1]!) {
      return refuse(
        `gives ${tensor} the data_offsets ${show(offsets)}`,
        "two ascending whole numbers",
        offsets,
      );
    }
    const [begin, end] = offsets as [number, number];
    const bytes = byteLength(dtype as SafetensorsDtype, shape);
    if (end - begin !== bytes) {
      refuse(
        `gives ${tensor} ${end - begin} bytes, but ${dtype} [${shape}] takes ${bytes}`,
        "as many bytes as the shape takes",
        offsets,
      );
    }
    return [tensor, {
      dtype: dtype as SafetensorsDtype,
      shape,
      file: path,
      begin: start + begin,
      end: start + end,
    }];
  });

  tensors.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let [previous, place] = ["the header", start];
  for (const [tensor, { begin, end }] of tensors) {
    if (begin < place) {
      refuse(`has overlapping tensors: ${tensor} begins inside ${previous}`, "tensors one after another");
    }
    if (begin > place) {
      refuse(`has a hole of ${begin - place} bytes before ${tensor}`, "tensors one after another");
    }
    [previous, place] = [tensor, end];
  }
  if (place > size) {
    refuse(
      `is truncated: its tensors take ${place} bytes, but it has ${size}`,
      "a whole safetensors file",
      size,
    );
  }
  if (place < size) {
    refuse(`has ${size - place} bytes after its last tensor`, "a file that ends with its last tensor", size);
  }
  return { tensors: new Map(tensors), metadata: metadata as Record<string, string> };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((count) => Number.isSafeInteger(count) && count >= 0);
}

/** Reads a range. Synchronous, so that two readers cannot move each other's place in the file. */
function readAt(
  { path, file }: Pick<Shard, "path" | "file">,
  begin: number,
  bytes: number,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes);
  file.seekSync(begin, Deno.SeekMode.Start);
  for (let done = 0; done < bytes;) {
    const count = file.readSync(out.subarray(done));
    if (count === null) {
      const name = basename(path);
      throw new InputError(`${name} has become shorter since it was opened.`, {
        field: name,
        accepted: "a file at rest",
      });
    }
    done += count;
  }
  return out;
}

function wrongDtype(name: string, dtype: SafetensorsDtype): InputError {
  return new InputError(`${name} is of the type ${dtype}, but weights must be F32, F16 or BF16.`, {
    field: name,
    value: dtype,
    accepted: "F32, F16 or BF16",
  });
}
