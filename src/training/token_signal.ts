/** How far a job's rows are tokens: said by the thread that reads them, heard by the one that trains. */
const STATES = ["reading", "large", "ready", "failed"] as const;

/** `large`: it turns out to take a while. `failed`: they will not be tokens. */
export type TokenState = typeof STATES[number];

/** A word that two threads share. */
export class TokenSignal {
  readonly #word: Int32Array<SharedArrayBuffer>;

  /** @param buffer what crosses to the other side; the other side gives it */
  constructor(readonly buffer = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT)) {
    this.#word = new Int32Array(buffer);
  }

  get state(): TokenState {
    return STATES[Atomics.load(this.#word, 0)]!;
  }

  set state(state: TokenState) {
    Atomics.store(this.#word, 0, STATES.indexOf(state));
    Atomics.notify(this.#word, 0);
  }

  /** @returns once the state is another, or after some milliseconds */
  async changed(from: TokenState, ms: number): Promise<void> {
    const { value } = Atomics.waitAsync(this.#word, 0, STATES.indexOf(from), ms);
    await value;
  }
}
