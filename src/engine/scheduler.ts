/** How the device's time is shared. */
export interface SchedulerOptions {
  /** Of the time that training and requests both want, what training gets: 0 to 1. */
  readonly trainShare?: number;
  /** Returns once the device has done what is queued: from then on its time is not training's. */
  readonly settle?: () => void;
  /** Does a request's step. */
  readonly around?: (id: number, step: () => Promise<IteratorResult<void>>) => Promise<IteratorResult<void>>;
  /** Called once a turn's steps are done. */
  readonly onTurn?: () => void;
  /** Milliseconds; a clock of a test's own. */
  readonly now?: () => number;
}

/** Milliseconds until the first look at what paused requests wait for, and between two later ones at most. */
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
  /** What does not take turns at the moment, and whether it is to again. */
  readonly #paused = new Map<
    number,
    { readonly request: AsyncGenerator<void>; readonly over: () => boolean }
  >();
  readonly #share: number;
  readonly #settle: () => void;
  readonly #around: NonNullable<SchedulerOptions["around"]>;
  readonly #onTurn: () => void;
  readonly #now: () => number;
  #newcomers: number[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #held = false;
  #running = false;
  /** When training got the device last. */
  #trainingSince = 0;
  /** When requests have had their share in this turn; no end where training does not wait. */
  #until = Infinity;
  /** Milliseconds that requests had beyond their share in earlier turns. */
  #debt = 0;
  /** Milliseconds of the time that both wanted since training took the device. */
  #shared = { training: 0, requests: 0 };
  /** Batches that have run. */
  #batches = 0;
  /** Of those, before this turn. */
  #before = 0;

  constructor(
    {
      trainShare = 0.5,
      settle = () => {},
      around = (_, step) => step(),
      onTurn = () => {},
      now = () => performance.now(),
    }: SchedulerOptions = {},
  ) {
    this.#share = trainShare;
    this.#settle = settle;
    this.#around = around;
    this.#onTurn = onTurn;
    this.#now = now;
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

  /** Gives a request no turns until what it waits for is there. */
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
    const left = this.#left;
    if (left <= 0 && this.#batches > this.#before) return null;
    this.#batches++;
    return Math.max(left, 0);
  };

  /** A training run takes the device: requests wait for its {@link turn}. @throws Error where another run has it */
  hold(): void {
    if (this.#held) throw new Error("Another training run holds this device.");
    this.#held = true;
    this.#trainingSince = this.#now();
    this.#debt = 0;
    this.#shared = { training: 0, requests: 0 };
  }

  /** What training has had of the time that requests wanted too, 0 to 1; null: they have wanted none. */
  get trained(): number | null {
    const { training, requests } = this.#shared;
    return requests === 0 ? null : training / (training + requests);
  }

  /** The training run gives the device back: what waits runs until none is left. */
  release(): void {
    this.#held = false;
    this.#until = Infinity;
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
      const share = this.#held && this.#waiting.size > 0 ? this.#open() : null;
      const opened = this.#now();
      this.#before = this.#batches;
      await this.#round();
      while (share !== null && this.#held && this.#waiting.size > 0 && this.#left > 0 && !over()) {
        await messages();
        await this.#round();
      }
      if (share !== null) {
        this.#close(share);
        this.#shared.requests += this.#now() - opened;
      }
      this.#trainingSince = this.#now();
    } finally {
      this.#onTurn();
      this.#running = false;
    }
  }

  /** Milliseconds until requests have had their share. */
  get #left(): number {
    return this.#held ? this.#until - this.#now() : Infinity;
  }

  /** Measures what training had of the device. @returns the milliseconds that requests get for it */
  #open(): number {
    this.#settle();
    const now = this.#now();
    const trained = now - this.#trainingSince;
    this.#shared.training += trained;
    const share = this.#share > 0 ? trained * (1 - this.#share) / this.#share : Infinity;
    this.#until = now + share - this.#debt;
    return share;
  }

  /** What a batch took beyond the share is taken from the next turns; what is left of it where nobody waits is lost. */
  #close(share: number): void {
    this.#debt = Math.min(Math.max(-this.#left, 0), share);
  }

  async #round(): Promise<void> {
    do {
      const id = this.#newcomers.shift();
      if (id !== undefined) await this.#step(id);
    } while (this.#newcomers.length > 0 && this.#left > 0);
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

/** Lets what others have sent in. */
function messages(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
