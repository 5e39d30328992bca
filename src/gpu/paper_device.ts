import { MemoryAccount } from "./memory.ts";
import type { TensorDtype } from "./storage.ts";
import { allocated, ROUNDING, type Tensor, tensorBytes, type TensorMemory } from "./tensor.ts";

/** Bytes of the largest tensor that a device of these limits can bind, and no more than `most`. */
export function largestTensor(
  limits: Readonly<Pick<GPUSupportedLimits, "maxStorageBufferBindingSize" | "maxBufferSize">>,
  most = Infinity,
): number {
  const bytes = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize, most);
  return Math.floor(bytes / ROUNDING) * ROUNDING; // a limit may be 2 GiB - 1
}

/** Counts what tensors take on a device, without one: nothing can be written to them or run on them. */
export class PaperDevice implements TensorMemory {
  readonly memory = new MemoryAccount(Infinity);

  constructor(readonly maxTensorBytes: number) {}

  tensor(name: string, shape: readonly number[], dtype: TensorDtype = "f32", part?: string): Tensor {
    takeTensor(this, name, shape, dtype, part);
    return tensorOf(null as unknown as GPUBuffer, name, shape, dtype, part);
  }

  free(...tensors: readonly Tensor[]): void {
    for (const { name, bytes, part } of tensors) this.memory.give(name, allocated(bytes), part);
  }
}

/** Enters a tensor into the account. @returns bytes of its buffer */
export function takeTensor(
  { maxTensorBytes, memory }: Pick<PaperDevice, "maxTensorBytes" | "memory">,
  name: string,
  shape: readonly number[],
  dtype: TensorDtype,
  part?: string,
): number {
  const bytes = tensorBytes(shape, dtype);
  if (bytes > maxTensorBytes) {
    throw new RangeError(
      `${name} [${shape}] has ${bytes} bytes; one binding holds at most ${maxTensorBytes}.`,
    );
  }
  memory.take(name, allocated(bytes), part);
  return allocated(bytes);
}

/** A tensor at its buffer's start. */
export function tensorOf(
  buffer: GPUBuffer,
  name: string,
  shape: readonly number[],
  dtype: TensorDtype,
  part?: string,
): Tensor {
  return { name, buffer, offset: 0, bytes: tensorBytes(shape, dtype), shape, dtype, ...part && { part } };
}
