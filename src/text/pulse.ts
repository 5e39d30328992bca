/** What a thread is at, which others see while it cannot answer. */

/** What can take long: the thread writes which of them it begins. */
const STAGES = [
  "waits",
  "reads files",
  "reads a template",
  "reads a model",
  "reads rows",
  "renders",
  "tokenises",
] as const;

/** One of the things that can take long. */
export type Stage = typeof STAGES[number];

const [BEATS, CALL, STAGE, ROW] = [0, 1, 2, 3];
const NOBODY = -1;

/** Words that two threads share: the one that works writes them, the one that watches reads them. */
export class Pulse {
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** @param buffer the other side's */
  constructor(buffer = new SharedArrayBuffer(4 * Int32Array.BYTES_PER_ELEMENT)) {
    this.#words = new Int32Array(buffer);
  }

  /** What crosses to the other side. */
  get buffer(): SharedArrayBuffer {
    return this.#words.buffer;
  }

  /** Changes with every step of the work. */
  get beats(): number {
    return Atomics.load(this.#words, BEATS);
  }

  /** The call that has the thread; null: none. */
  get call(): number | null {
    const call = Atomics.load(this.#words, CALL);
    return call === NOBODY ? null : call;
  }

  get stage(): Stage {
    return STAGES[Atomics.load(this.#words, STAGE)]!;
  }

  /** The row of a data set that is read, from 1; 0: none. */
  get row(): number {
    return Atomics.load(this.#words, ROW);
  }

  set row(row: number) {
    Atomics.store(this.#words, ROW, row);
    Atomics.add(this.#words, BEATS, 1);
  }

  /** A call takes the thread, or releases it. */
  turn(call: number | null): void {
    Atomics.store(this.#words, CALL, call ?? NOBODY);
    Atomics.store(this.#words, ROW, 0);
    this.beat("waits");
  }

  /** The next row of a data set's files is read. */
  reading(): void {
    Atomics.store(this.#words, ROW, 0);
    this.beat("reads rows");
  }

  /** A step of the work begins. */
  beat(stage: Stage): void {
    Atomics.store(this.#words, STAGE, STAGES.indexOf(stage));
    Atomics.add(this.#words, BEATS, 1);
  }
}
