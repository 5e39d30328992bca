/** Jobs that wait until the disk takes what they write, and when each goes on. */
import type { TrainEvent } from "../engine/protocol.ts";

/** A job that waits. */
interface Waiting {
  readonly unrecorded: TrainEvent[];
  /** Free bytes at which it goes on at once: more than there were. */
  readonly wantedBytes: number;
  /** When it goes on although there are not, by a clock that nobody sets: what was free may have changed before it was measured. */
  readonly retryAt: number;
}

/** Milliseconds after which a job is tried again without more room, at first and at most. */
const [FIRST_RETRY_MS, LAST_RETRY_MS] = [10_000, 15 * 60_000];

/** Jobs that wait; each waits twice as long as the time before, until it progresses. */
export class WaitingJobs {
  readonly #jobs = new Map<string, Waiting>();
  readonly #delays = new Map<string, number>();

  get size(): number {
    return this.#jobs.size;
  }

  has(id: string): boolean {
    return this.#jobs.has(id);
  }

  /** Adds a job that an earlier life of the process left: it is tried as soon as the disk takes a write. */
  addFound(id: string): void {
    this.#jobs.set(id, { unrecorded: [], wantedBytes: 0, retryAt: 0 });
  }

  /**
   * Adds a job whose write failed.
   *
   * @param unrecorded what it has told that could not be written
   * @param blocked whether the folder takes no write at all: it goes on as soon as one passes
   * @param free bytes that are free after what was half written has gone; null where that is not known
   * @param firstMs the first wait where it is not known
   */
  add(id: string, unrecorded: TrainEvent[], blocked: boolean, free: number | null, firstMs: number): void {
    const first = free === null ? firstMs : FIRST_RETRY_MS;
    const delay = Math.min((this.#delays.get(id) ?? first / 2) * 2, LAST_RETRY_MS);
    this.#delays.set(id, delay);
    const wantedBytes = blocked ? 0 : (free ?? Infinity) * 1.1 + 2 ** 20;
    this.#jobs.set(id, { unrecorded, wantedBytes, retryAt: performance.now() + delay });
  }

  /** Jobs for which there is room now or whose time has come, each with what it has told. */
  due(free: number | null): [id: string, unrecorded: TrainEvent[]][] {
    return [...this.#jobs]
      .filter(([, { wantedBytes, retryAt }]) => (free ?? 0) >= wantedBytes || performance.now() >= retryAt)
      .map(([id, { unrecorded }]) => [id, unrecorded]);
  }

  /** Takes a job out; its next wait is no shorter for it. */
  delete(id: string): void {
    this.#jobs.delete(id);
  }

  /** A job has progressed: its next wait is a short one. */
  progressed(id: string): void {
    this.#delays.delete(id);
  }
}
