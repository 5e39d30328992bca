import { STORAGE } from "./storage.ts";
import { allocated, type Tensor } from "./tensor.ts";

/** In host memory, and therefore not in the account. */
const STAGING_BYTES = 16 * 2 ** 20;
/** What is read back of a format. */
const WORDS = { f32: Float32Array, u32: Uint32Array, u16: Uint16Array } as const;

/** Numbers as they were read back. */
export type ReadWords = Float32Array | Uint32Array | Uint16Array;

/** Copies tensors to the host through one staging buffer. */
export class Readback {
  readonly #device: GPUDevice;
  readonly #wait: (work: () => Promise<unknown>) => Promise<void>;
  #staging: GPUBuffer | null = null;
  #last: Promise<unknown> = Promise.resolve();

  /** @param wait waits for the device, and throws its fault if it had one */
  constructor(device: GPUDevice, wait: (work: () => Promise<unknown>) => Promise<void>) {
    this.#device = device;
    this.#wait = wait;
  }

  /** @returns a typed array each, in one round where they fit the staging buffer together */
  read(tensors: readonly Tensor[]): Promise<ReadWords[]> {
    // one after another: they share the staging buffer
    const result = this.#last.then(() => this.#readNow(tensors));
    this.#last = result.catch(() => {});
    return result;
  }

  async #readNow(tensors: readonly Tensor[]): Promise<ReadWords[]> {
    const results = tensors.map((tensor) => new Uint8Array(tensor.bytes));
    const pieces: { from: Tensor; at: number; bytes: number; into: Uint8Array }[] = [];
    tensors.forEach((from, i) => {
      for (let at = 0; at < from.bytes; at += STAGING_BYTES) {
        pieces.push({ from, at, bytes: Math.min(STAGING_BYTES, from.bytes - at), into: results[i]! });
      }
    });
    while (pieces.length > 0) {
      const staging = this.#staging ??= this.#device.createBuffer({
        label: "readback",
        size: STAGING_BYTES,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      });
      const encoder = this.#device.createCommandEncoder();
      let filled = 0;
      const round: { piece: typeof pieces[number]; start: number }[] = [];
      while (pieces[0] && filled + allocated(pieces[0].bytes) <= STAGING_BYTES) {
        const piece = pieces.shift()!;
        const { from: { buffer, offset }, at, bytes } = piece;
        encoder.copyBufferToBuffer(buffer, offset + at, staging, filled, Math.ceil(bytes / 4) * 4);
        round.push({ piece, start: filled });
        filled += allocated(bytes);
      }
      this.#device.queue.submit([encoder.finish()]);
      await this.#wait(() => staging.mapAsync(GPUMapMode.READ, 0, filled));
      const mapped = new Uint8Array(staging.getMappedRange(0, filled));
      for (const { piece, start } of round) {
        piece.into.set(mapped.subarray(start, start + piece.bytes), piece.at);
      }
      staging.unmap();
    }
    return results.map(({ buffer }, i) => new WORDS[STORAGE[tensors[i]!.dtype].words](buffer));
  }
}
