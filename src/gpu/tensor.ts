import { STORAGE, type TensorDtype } from "./storage.ts";

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
  /** What it is for, as the account of memory has it; `other` unless given. */
  readonly part?: string;
}

/** Tensors by the names that a shader or an operation gives them. */
export type Tensors<Name extends string = string> = Readonly<Record<Name, Tensor>>;

/** Where tensors come from: a device, or a count of what one would need. */
export interface TensorSource {
  /** Largest number of bytes one tensor may have. */
  readonly maxTensorBytes: number;
  /** Makes a zeroed tensor, accounted under its name and part. */
  tensor(name: string, shape: readonly number[], dtype?: TensorDtype, part?: string): Tensor;
}

/** What tensors are made in and given back to. */
export interface TensorMemory extends TensorSource {
  free(...tensors: readonly Tensor[]): void;
}

/** Tensors of one owner, let go of together. */
export class OwnedTensors implements TensorSource {
  readonly #tensors: Tensor[] = [];

  constructor(private readonly memory: TensorMemory) {}

  get maxTensorBytes(): number {
    return this.memory.maxTensorBytes;
  }

  tensor(name: string, shape: readonly number[], dtype?: TensorDtype, part?: string): Tensor {
    const tensor = this.memory.tensor(name, shape, dtype, part);
    this.#tensors.push(tensor);
    return tensor;
  }

  /** Bytes that they take. */
  get bytes(): number {
    return this.#tensors.reduce((sum, { bytes }) => sum + allocated(bytes), 0);
  }

  free(): void {
    this.memory.free(...this.#tensors.splice(0));
  }
}

/** Buffers are rounded up to this, so that vec4 loads of the last elements stay inside. */
export const ROUNDING = 16;

/** Bytes of the buffer that holds a tensor of so many. */
export function allocated(bytes: number): number {
  return Math.max(ROUNDING, Math.ceil(bytes / ROUNDING) * ROUNDING);
}

/** Bytes of one element; in a format of blocks its share of them. */
export function dtypeBytes(dtype: TensorDtype): number {
  return STORAGE[dtype].bytes_per_block / STORAGE[dtype].block;
}

/** Bytes of a tensor. @throws {RangeError} where its rows are no whole blocks of its format */
export function tensorBytes(shape: readonly number[], dtype: TensorDtype): number {
  const { block } = STORAGE[dtype];
  const columns = shape.at(-1) ?? 1;
  if (columns % block !== 0) {
    throw new RangeError(`Rows of ${dtype} must be a multiple of ${block} long, not ${columns}.`);
  }
  return elements(shape) * dtypeBytes(dtype);
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
