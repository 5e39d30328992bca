/** What the engine's thread is at, as far as it tells: what may take long has a limit of its own. */
const ACTIVITIES = ["javascript", "device", "compiling", "weights"] as const;

/** One of {@link ACTIVITIES}: `device`: waits for the GPU; `weights`: reads a model's files. */
export type Activity = typeof ACTIVITIES[number];

const WORD = { beats: 0, progress: 1, activity: 2, work: 3, call: 4 } as const;

/** Tells the main thread that the engine's is alive and gets on: shared memory, since a thread that hangs sends nothing. */
export class Heartbeat {
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** @param buffer what crosses to the other side; the other side gives it */
  constructor(readonly buffer = new SharedArrayBuffer(5 * Int32Array.BYTES_PER_ELEMENT)) {
    this.#words = new Int32Array(buffer);
  }

  /** Changes as long as the thread's event loop turns. */
  get beats(): number {
    return Atomics.load(this.#words, WORD.beats);
  }

  /** Changes with every piece of work that is done. */
  get progress(): number {
    return Atomics.load(this.#words, WORD.progress);
  }

  /** What the thread is at, or was at last. */
  get activity(): Activity {
    return ACTIVITIES[Atomics.load(this.#words, WORD.activity)]!;
  }

  /** Whether there is work under way, which is to show progress. */
  get working(): boolean {
    return Atomics.load(this.#words, WORD.work) > 0;
  }

  /** The scoring call whose step is under way. */
  get call(): number | null {
    const call = Atomics.load(this.#words, WORD.call);
    return call === 0 ? null : call - 1;
  }

  set call(id: number | null) {
    Atomics.store(this.#words, WORD.call, id === null ? 0 : id + 1);
  }

  /** The event loop turns. */
  beat(): void {
    Atomics.add(this.#words, WORD.beats, 1);
  }

  /** A piece of work is done. */
  advance(): void {
    Atomics.add(this.#words, WORD.progress, 1);
    Atomics.add(this.#words, WORD.beats, 1);
  }

  /** Does a part of the thread's work that may hold it. */
  during<T>(activity: Activity, work: () => T): T {
    const before = Atomics.exchange(this.#words, WORD.activity, ACTIVITIES.indexOf(activity));
    this.advance();
    try {
      return work();
    } finally {
      Atomics.store(this.#words, WORD.activity, before);
      this.advance();
    }
  }

  /** Does work that is to show progress until it has ended. */
  async underWay<T>(work: () => Promise<T>): Promise<T> {
    Atomics.add(this.#words, WORD.work, 1);
    this.advance();
    try {
      return await work();
    } finally {
      this.advance();
      Atomics.sub(this.#words, WORD.work, 1);
    }
  }
}
