import { TimeShare, type TimeShareOptions } from "./time_share.ts";

/** How requests are served. */
export interface SchedulerOptions extends TimeShareOptions {
  /** Does a request's step. */
  readonly around?: (id: number, step: () => Promise<IteratorResult<void>>) => Promise<IteratorResult<void>>;
  /** Called once a turn's steps are done. */
  readonly onTurn?: () => void;
}

/** Milliseconds until the first look whether a pause is over, and between two later ones at most. */
const PAUSE_MS = { first: 1, most: 32 };

/**
 * Who is next on the GPU. Scoring requests take turns of at most one batch each, in the order in which they came; while a
 * training run holds the device they share the time between two of its micro-batches, otherwise they run until none is left.
 *
 * Between two micro-batches at least one batch runs where a request waits, and more until requests have had their share of
 * the time that the last micro-batch took.
 */
export class Scheduler {
  readonly #waiting = new Map<number, AsyncGenerator<void>>();
  /** Requests that take no turns at the moment, and whether their pause is over. */
  readonly #paused = new Map<
    number,
    { readonly request: AsyncGenerator<void>; readonly over: () => boolean }
  >();
  readonly #around: NonNullable<SchedulerOptions["around"]>;
  readonly #onTurn: () => void;
  readonly #time: TimeShare;
  #newcomers: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #held = false;
  #running = false;
  /** Batches that have run. */
  #batches = 0;
  /** Of those, before this turn. */
  #before = 0;

  constructor({ around = (_, step) => step(), onTurn = () => {}, ...time }: SchedulerOptions = {}) {
    this.#around = around;
    this.#onTurn = onTurn;
    this.#time = new TimeShare(time);
  }

  /** Whether anybody has work for the device. */
  get busy(): boolean {
    return this.#held || this.#waiting.size > 0;
  }

  /** Takes on a request; each step of the generator is one turn, and its first step prepares what the others need. */
  add(id: number, request: AsyncGenerator<void>): void {
    this.#waiting.set(id, request);
    this.#newcomers.push(id);
    if (!this.#held) void this.#drain();
  }

  /** Whether a request is still waited for. */
  has(id: number): boolean {
    return this.#waiting.has(id) || this.#paused.has(id);
  }

  /** Drops a request at its next turn. */
  remove(id: number): void {
    const request = this.#waiting.get(id) ?? this.#paused.get(id)?.request;
    this.#waiting.delete(id);
    this.#paused.delete(id);
    void request?.return(undefined);
  }

  /** Gives a request no turns until its pause is over. */
  pause(id: number, over: () => boolean): void {
    const request = this.#waiting.get(id);
    if (request === undefined) return;
    this.#waiting.delete(id);
    this.#paused.set(id, { request, over });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#resume(PAUSE_MS.first), PAUSE_MS.first);
  }

  /**
   * Asked by a step before it runs a batch.
   *
   * @returns milliseconds that the batch may take, as far as that can be told; null where it is to wait for another step
   */
  readonly takeBatch = (): number | null => {
    const left = this.#time.left;
    if (left <= 0 && this.#batches > this.#before) return null;
    this.#batches++;
    return Math.max(left, 0);
  };

  /** A training run takes the device: requests wait for its {@link turn}. @throws {Error} where another run has it */
  hold(): void {
    if (this.#held) throw new Error("Another training run holds this device.");
    this.#held = true;
    this.#time.hold();
  }

  /** What training has had of the time that requests wanted too, 0 to 1; null: they have wanted none. */
  get trained(): number | null {
    return this.#time.trained;
  }

  /** The training run releases the device: what waits runs until none is left. */
  release(): void {
    this.#held = false;
    this.#time.release();
    void this.#drain();
  }

  /**
   * Lets messages in, then gives every waiting request a step, and another while they have not had their share. Newcomers
   * take their first before that: what they prepare is in the first batch of the turn.
   *
   * @param over whether training is to end, for which nobody should wait
   */
  async turn(over: () => boolean = () => false): Promise<void> {
    await messages();
    if (this.#running) return;
    this.#running = true;
    try {
      const isShared = this.#held && this.#waiting.size > 0;
      if (isShared) this.#time.open();
      this.#before = this.#batches;
      await this.#round();
      while (isShared && this.#held && this.#waiting.size > 0 && this.#time.left > 0 && !over()) {
        await messages();
        await this.#round();
      }
      if (isShared) this.#time.close();
      this.#time.resume();
    } finally {
      this.#onTurn();
      this.#running = false;
    }
  }

  async #round(): Promise<void> {
    do {
      const id = this.#newcomers.shift();
      if (id !== undefined) await this.#step(id);
    } while (this.#newcomers.length > 0 && this.#time.left > 0);
    const unprepared = new Set(this.#newcomers);
    for (const id of [...this.#waiting.keys()]) if (!unprepared.has(id)) await this.#step(id);
  }

  /** A request that has run a batch is the last to run another. */
  async #step(id: number): Promise<void> {
    const request = this.#waiting.get(id);
    if (request === undefined) return;
    const before = this.#batches;
    const { done } = await this.#around(id, () => request.next());
    if (!done && this.#batches === before || !this.#waiting.has(id)) return;
    this.#waiting.delete(id);
    if (!done) this.#waiting.set(id, request);
  }

  #resume(waitedMs: number): void {
    for (const [id, { request, over }] of this.#paused) {
      if (!over()) continue;
      this.#paused.delete(id);
      this.#waiting.set(id, request);
    }
    const ms = Math.min(2 * waitedMs, PAUSE_MS.most);
    if (this.#paused.size > 0) this.#timer = setTimeout(() => this.#resume(ms), ms);
    if (!this.#held) void this.#drain();
  }

  async #drain(): Promise<void> {
    while (this.#waiting.size > 0 && !this.#held && !this.#running) await this.turn();
  }
}

/** Lets the event loop take messages. */
function messages(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
