/** The device has no room for what was asked. */
export class GpuMemoryError extends Error {
  override readonly name = "GpuMemoryError";
}

/** Runs `work`, and once more where the device had no room for it and `makeRoom` found some. */
export async function withRoom<T>(makeRoom: () => boolean, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof GpuMemoryError && makeRoom()) return await work();
    throw error;
  }
}

/** What memory is for, where nothing is said. */
const OTHER = "other";

/**
 * The engine's own account of GPU buffers: WebGPU tells neither what is used nor what is left, and the software
 * driver grants buffers until the process dies.
 */
export class MemoryAccount {
  readonly #held = new Map<string, number>();
  readonly #parts = new Map<string, number>();
  #bytes = 0;
  #peak = 0;

  /** @param limit bytes that may be held at one time; Infinity where no limit is set */
  constructor(readonly limit: number) {}

  /** Bytes held now. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Most bytes held at one time. */
  get peak(): number {
    return this.#peak;
  }

  /** Bytes held now, by tensor name. */
  byName(): Record<string, number> {
    return Object.fromEntries(this.#held);
  }

  /** Bytes held now, by what they are for. */
  byPart(): Record<string, number> {
    return Object.fromEntries(this.#parts);
  }

  /**
   * Enters bytes under a name, which several tensors may share, and a part.
   *
   * @throws {GpuMemoryError} where the limit would be passed
   */
  take(name: string, bytes: number, part = OTHER): void {
    if (this.#bytes + bytes > this.limit) {
      throw new GpuMemoryError(
        `${name} needs ${mebibytes(bytes)} of GPU memory; ${mebibytes(this.#bytes)} of ${
          mebibytes(this.limit)
        } are in use.`,
      );
    }
    this.#bytes += bytes;
    this.#peak = Math.max(this.#peak, this.#bytes);
    add(this.#held, name, bytes);
    add(this.#parts, part, bytes);
  }

  /** Takes back bytes that {@link take} entered. */
  give(name: string, bytes: number, part = OTHER): void {
    this.#bytes -= bytes;
    add(this.#held, name, -bytes);
    add(this.#parts, part, -bytes);
  }
}

function add(sums: Map<string, number>, key: string, bytes: number): void {
  const sum = (sums.get(key) ?? 0) + bytes;
  if (sum > 0) sums.set(key, sum);
  else sums.delete(key);
}

/** Bytes as a message has them. */
export function mebibytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}

/**
 * Bytes in the unit that suits their size.
 *
 * @example Half a gibibyte
 * ```ts
 * import assert from "node:assert/strict";
 * import { bytesText } from "./memory.ts";
 * assert.equal(bytesText(2 ** 29), "512.0 MiB");
 * ```
 */
export function bytesText(bytes: number): string {
  if (bytes < 2 ** 20) return `${(bytes / 2 ** 10).toFixed(1)} KiB`;
  return bytes < 2 ** 30 ? mebibytes(bytes) : `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}
