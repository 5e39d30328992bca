import type { Gpu } from "../gpu/mod.ts";

/** Work that may be queued on the device before the next wait for it; waiting calls for /score wait at most this long. */
const QUEUED_MS = 50;

/**
 * Keeps the device's queue of micro-batches short, so that what is served between them need not wait for many.
 *
 * Deno's call to wait holds the thread until the queue is empty, and its promise comes 10 ms after that: too long for the
 * device to stand still, so it is awaited the next time.
 */
export class Pace {
  /** Measured time of a micro-batch on the device, and the batches queued since the last wait. */
  #batchMs = Infinity;
  #queued = 0;
  #lastWait = 0;
  #settled: Promise<void> = Promise.resolve();

  constructor(private readonly gpu: Gpu) {}

  /**
   * Called once a micro-batch is queued.
   *
   * @param serve lets others have the device
   */
  async between(serve: () => Promise<void>): Promise<void> {
    // to serve takes 2 ms: while the device computes, where it has done with a micro-batch soon after
    const soon = this.#batchMs < QUEUED_MS;
    if (!soon) await this.#wait();
    await serve();
    if (soon) await this.#wait();
  }

  async #wait(): Promise<void> {
    this.#queued++;
    if (this.#queued * this.#batchMs < QUEUED_MS) return;
    await this.#settled;
    this.#settled = this.gpu.settle();
    this.#settled.catch(() => {}); // whoever waits next hears of it
    const now = performance.now();
    if (this.#lastWait > 0) this.#batchMs = (now - this.#lastWait) / this.#queued;
    this.#lastWait = now;
    this.#queued = 0;
  }
}
