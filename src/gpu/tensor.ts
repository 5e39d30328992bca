/**
 * How numbers lie in a buffer; the two 16-bit types are packed two to a u32, low half first. `int8` is in blocks of 32
 * neighbours of a row, as shaders/storage_int8.wgsl has it; rows are whole blocks.
 */
export type TensorDtype = "f32" | "u32" | "bf16" | "f16" | "int8";

/** Numbers that share a scale in `int8`. */
export const INT8_BLOCK = 32;
/** A block's scale and its numbers. */
export const INT8_BLOCK_BYTES = 4 + INT8_BLOCK;

/** A row-major array in GPU memory, or a run of rows of one. */
export interface Tensor {
  readonly name: string;
  readonly buffer: GPUBuffer;
  /** Bytes from the buffer's start. */
  readonly offset: number;
  /** Bytes of the data, without padding. */
  readonly bytes: number;
  readonly shape: readonly number[];
  readonly dtype: TensorDtype;
}

/** Where tensors come from: a device, or a count of what one would need. */
export interface TensorSource {
  /** Largest number of bytes one tensor may have. */
  readonly maxTensorBytes: number;
  /** Makes a zeroed tensor. */
  tensor(name: string, shape: readonly number[], dtype?: TensorDtype): Tensor;
}

/** What tensors are made in and given back to. */
export interface TensorMemory extends TensorSource {
  free(...tensors: readonly Tensor[]): void;
}

/** Tensors of one owner, let go of together. */
export class OwnedTensors implements TensorSource {
  readonly #memory: TensorMemory;
  readonly #tensors: Tensor[] = [];

  constructor(memory: TensorMemory) {
    this.#memory = memory;
  }

  get maxTensorBytes(): number {
    return this.#memory.maxTensorBytes;
  }

  tensor(name: string, shape: readonly number[], dtype?: TensorDtype): Tensor {
    const tensor = this.#memory.tensor(name, shape, dtype);
    this.#tensors.push(tensor);
    return tensor;
  }

  /** Bytes that they take. */
  get bytes(): number {
    return this.#tensors.reduce((sum, { bytes }) => sum + allocated(bytes), 0);
  }

  free(): void {
    this.#memory.free(...this.#tensors.splice(0));
  }
}

/** Buffers are rounded up to this, so that vec4 loads of the last elements stay inside. */
export const ROUNDING = 16;

/** Bytes of the buffer that holds a tensor of so many. */
export function allocated(bytes: number): number {
  return Math.max(ROUNDING, Math.ceil(bytes / ROUNDING) * ROUNDING);
}

/** Bytes of one element. */
export function dtypeBytes(dtype: Exclude<TensorDtype, "int8">): number {
  return dtype === "f32" || dtype === "u32" ? 4 : 2;
}

/** Bytes of a tensor. @throws {RangeError} where the rows of `int8` are not whole blocks */
export function tensorBytes(shape: readonly number[], dtype: TensorDtype): number {
  if (dtype !== "int8") return elements(shape) * dtypeBytes(dtype);
  if (shape.at(-1)! % INT8_BLOCK !== 0) {
    throw new RangeError(`Rows of int8 must be a multiple of ${INT8_BLOCK} long, not ${shape.at(-1)}.`);
  }
  return elements(shape) / INT8_BLOCK * INT8_BLOCK_BYTES;
}

/** Elements of a shape. */
export function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Rows [first, first + count) of a tensor as a view; the offset must meet the device's binding alignment. */
export function rowsOf(tensor: Tensor, first: number, count: number): Tensor {
  const rowBytes = tensor.bytes / tensor.shape[0]!;
  return {
    ...tensor,
    offset: tensor.offset + first * rowBytes,
    bytes: count * rowBytes,
    shape: [count, ...tensor.shape.slice(1)],
  };
}
