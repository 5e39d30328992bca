/** Reads tensors from safetensors files by ranges, so that they never have to fit the host's memory. */
import { InputError } from "../errors.ts";
import { show } from "../json.ts";
import { readAt, type SafetensorsDtype, type Shard, type TensorInfo } from "./_safetensors_file.ts";
import { type Crc32, loadCrc32 } from "./crc32.ts";
import { crcText } from "./checksums.ts";
import { isFloatDtype, toF32 } from "./dtype.ts";
import { type OpenedWeights, openFile, openWeights } from "./weight_folder.ts";

export type { SafetensorsDtype } from "./_safetensors_file.ts";

/**
 * The tensors of one model: a single file, or shards under `model.safetensors.index.json`. Headers are checked in
 * full when it is opened; the tensors are read when asked for.
 */
export class WeightFiles implements Disposable {
  readonly #shards: ReadonlyMap<string, Shard>;
  readonly #tensors: ReadonlyMap<string, TensorInfo>;
  /** The file's own notes (`format: "pt"`); of shards, those of the first. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Of each tensor: the rows that were read in order from its first, and their CRC-32. */
  readonly #read = new Map<string, { rows: number; sum: number }>();
  /** Set where what is read is summed. */
  #crc32: Crc32 | null = null;

  private constructor({ shards, tensors }: OpenedWeights) {
    this.#shards = new Map(shards.map((shard) => [shard.path, shard]));
    this.#tensors = tensors;
    this.metadata = shards[0]?.metadata ?? {};
  }

  /**
   * Opens a model folder: `model.safetensors`, or else the shards that `model.safetensors.index.json` names.
   *
   * @param dir Folder of the model's files
   * @throws {InputError} where neither is there or anything in them is malformed
   */
  static async open(dir: string): Promise<WeightFiles> {
    return new WeightFiles(await openWeights(dir));
  }

  /**
   * Opens one safetensors file.
   *
   * @throws {InputError} where it is missing or malformed
   */
  static async openFile(path: string): Promise<WeightFiles> {
    return new WeightFiles(await openFile(path));
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
   * @throws {InputError} where there is none of this name
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
   * @throws {InputError} where the file has become shorter since it was opened
   * @throws {RangeError} where the tensor has no such rows
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

  /** Reads a whole tensor. @returns Its bytes as they are stored. @throws {InputError} as readRows() */
  read(name: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.readRows(name, 0, this.info(name).shape[0] ?? 1);
  }

  /**
   * Reads a whole tensor of F32, F16 or BF16 as f32.
   *
   * @throws {InputError} as readRows(), and where it is of another type
   */
  async readF32(name: string): Promise<Float32Array<ArrayBuffer>> {
    const { dtype } = this.info(name);
    if (!isFloatDtype(dtype)) throw wrongDtype(name, dtype);
    return toF32(await this.read(name), dtype);
  }

  /**
   * A tensor that must be there, be of F32, F16 or BF16 and have this shape.
   *
   * @throws {InputError} naming the tensor and what is wrong with it
   */
  expect(name: string, shape: readonly number[]): TensorInfo & { readonly dtype: "F32" | "F16" | "BF16" } {
    const info = this.info(name);
    const { dtype } = info;
    if (!isFloatDtype(dtype)) throw wrongDtype(name, dtype);
    if (info.shape.length !== shape.length || info.shape.some((size, i) => size !== shape[i])) {
      throw new InputError(
        `${name} has the shape [${info.shape}], but the configuration asks for [${shape}].`,
        { path: [name], value: info.shape, accepted: `the shape [${shape}]` },
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

function wrongDtype(name: string, dtype: SafetensorsDtype): InputError {
  return new InputError(`${name} is of the type ${dtype}, but weights must be F32, F16 or BF16.`, {
    path: [name],
    value: dtype,
    accepted: "F32, F16 or BF16",
  });
}
