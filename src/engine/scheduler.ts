/**
 * Who is next on the GPU. Scoring requests take turns of at most one batch each, in the order in which they came; while a
 * training run holds the device they get a turn between its micro-batches, otherwise they run until none is left.
 */
export class Scheduler {
  readonly #waiting = new Map<number, AsyncGenerator<void>>();
  #newcomers: number[] = [];
  #held = false;
  #running = false;

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
    return this.#waiting.has(id);
  }

  /** Drops a request at its next turn. */
  remove(id: number): void {
    const request = this.#waiting.get(id);
    this.#waiting.delete(id);
    void request?.return(undefined);
  }

  /** A training run takes the device: requests wait for its {@link turn}. @throws Error where another run has it */
  hold(): void {
    if (this.#held) throw new Error("Another training run holds this device.");
    this.#held = true;
  }

  /** The training run gives the device back: what waits runs until none is left. */
  release(): void {
    this.#held = false;
    void this.#drain();
  }

  /**
   * Lets messages in, then gives every waiting request a step. Newcomers take their first before that: what they prepare
   * is in the first batch of the turn.
   */
  async turn(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    if (this.#running) return;
    this.#running = true;
    try {
      const newcomers = this.#newcomers.splice(0);
      for (const id of [...newcomers, ...this.#waiting.keys()]) {
        const step = await this.#waiting.get(id)?.next();
        if (step?.done) this.#waiting.delete(id);
      }
    } finally {
      this.#running = false;
    }
  }

  async #drain(): Promise<void> {
    while (this.#waiting.size > 0 && !this.#held && !this.#running) await this.turn();
  }
}
