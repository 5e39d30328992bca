import { Worker } from "node:worker_threads";
import { InputError } from "../errors.ts";
import { fromPlainError, type PlainError } from "../plain_error.ts";
import { charactersOf, type EncodedBatch } from "./encode_batch.ts";
import type { EncodeSettings } from "./encode.ts";
import type { Comparison } from "./rows.ts";

/** What the Workers of a pool have to know of the texts they are given. */
export interface EncodeJob {
  /** Folder of the model that the tokenizer is of. */
  readonly model: string;
  /** Jinja source in place of the model's own; null: the model's. */
  readonly chat_template: string | null;
  readonly settings: EncodeSettings;
  /** The model's vocabulary size. */
  readonly vocabulary: number;
}

/** To a Worker: its job first, then batches. */
export type ToEncoder = { readonly job: EncodeJob } | { readonly batch: readonly Comparison[] };

/** From a Worker: that it is ready, then an answer a batch, in their order. */
export type FromEncoder =
  | { readonly ready: true }
  /** In its place: it can do nothing. */
  | { readonly broken: PlainError }
  | { readonly encoded: EncodedBatch }
  | { readonly error: PlainError };

/** How many Workers a pool has, and when they start. */
export interface PoolOptions {
  /** Workers. */
  readonly size?: number;
  /** UTF-16 units of text that are left to the owner before the Workers start. */
  readonly after?: number;
  /** Called when it starts them. */
  readonly onStart?: () => void;
  /** Seconds that a row may take. */
  readonly seconds?: number;
}

interface Encoder {
  readonly worker: Worker;
  /** Shared with it: how many rows it has begun, and the last one's number. */
  readonly row: Int32Array;
  /** Of the rows begun, when they were last looked at, and for how many milliseconds there have been no more. */
  begun: number;
  silentMs: number;
  /** Who waits for an answer, in the order of their batches. */
  readonly waiting: PromiseWithResolvers<EncodedBatch>[];
}

/** Each holds a tokenizer of its own: about 200 MB with 128k entries. */
const MOST_WORKERS = 4;
/** A few hundred long rows: the start of a Worker takes as long. */
const SMALL_CHARACTERS = 2 ** 21;
/** Megabytes of heap of each. */
const HEAP_MB = 1024;
/** Seconds of a row, unless given: it is some kilobytes of text. */
const MOST_SECONDS = 30;
/** Milliseconds between two looks at what the Workers are at. */
const LOOK_MS = 500;
/** Batches of which each Worker has a second while it does the first. */
const BATCHES_A_WORKER = 2;

/**
 * Tokenises batches in threads of its own, with a bounded heap: one ends without an event when that is full. They start when a data set turns out to be a
 * large one; what they make of a batch is what {@link encodeBatch} makes of it.
 */
export class EncodePool implements Disposable {
  readonly #job: EncodeJob;
  /** Workers, started or to be started. */
  readonly size: number;
  readonly #after: number;
  readonly #onStart: () => void;
  readonly #encoders: Encoder[] = [];
  readonly #ready: Encoder[] = [];
  readonly #seconds: number;
  #timer: ReturnType<typeof setInterval> | null = null;
  readonly #started = Promise.withResolvers<void>();
  #broken: Error | null = null;
  #seen = 0;

  constructor(
    job: EncodeJob,
    { size = poolSize(), after = SMALL_CHARACTERS, onStart = () => {}, seconds = MOST_SECONDS }: PoolOptions =
      {},
  ) {
    this.#job = job;
    this.size = size;
    this.#after = after;
    this.#onStart = onStart;
    this.#seconds = seconds;
    this.#started.promise.catch(() => {}); // whoever sends a batch next hears of it
  }

  /** Batches that may be under way at one time. */
  get depth(): number {
    return Math.max(1, BATCHES_A_WORKER * this.#ready.length);
  }

  /**
   * Tokenises a batch.
   *
   * @returns null as long as no Worker is ready: the caller does it
   * @throws {InputError} as {@link encodeBatch}
   * @throws {Error} where a Worker has broken
   */
  encode(batch: readonly Comparison[]): Promise<EncodedBatch> | null {
    if (this.#seen >= this.#after) void this.start();
    this.#seen += batch.reduce((sum, comparison) => sum + charactersOf(comparison), 0);
    if (this.#broken) return Promise.reject(this.#broken);
    if (this.#ready.length === 0) return null;
    const idlest = this.#ready.reduce((a, b) => b.waiting.length < a.waiting.length ? b : a);
    idlest.worker.postMessage({ batch } satisfies ToEncoder);
    const answer = Promise.withResolvers<EncodedBatch>();
    idlest.waiting.push(answer);
    return answer.promise;
  }

  /** Starts the Workers unless they are started. @returns when all of them are ready */
  start(): Promise<void> {
    if (this.#encoders.length === 0) {
      this.#timer = setInterval(() => this.#look(), LOOK_MS);
      for (let i = 0; i < this.size; i++) this.#add();
      this.#onStart();
    }
    return this.#started.promise;
  }

  /** Ends the Workers, whatever they are at. */
  [Symbol.dispose](): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    for (const { worker } of this.#encoders) void worker.terminate();
  }

  #add(): void {
    const row = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT));
    const worker = new Worker(new URL("./encode_worker.ts", import.meta.url), {
      name: "tokens",
      workerData: row.buffer,
      resourceLimits: { maxOldGenerationSizeMb: HEAP_MB, maxYoungGenerationSizeMb: 64 },
    });
    const encoder: Encoder = { worker, row, begun: 0, silentMs: 0, waiting: [] };
    worker.on("message", (message: FromEncoder) => {
      if ("ready" in message) {
        if (this.#ready.push(encoder) === this.size) this.#started.resolve();
      } else if ("broken" in message) this.#break(broken(message.broken.message));
      else if ("encoded" in message) encoder.waiting.shift()?.resolve(message.encoded);
      else encoder.waiting.shift()?.reject(fromPlainError(message.error));
    });
    worker.on("error", ({ message }) => this.#break(broken(message)));
    worker.postMessage({ job: this.#job } satisfies ToEncoder);
    this.#encoders.push(encoder);
  }

  #look(): void {
    for (const encoder of this.#encoders) {
      const begun = Atomics.load(encoder.row, 0);
      const isReady = this.#ready.includes(encoder);
      if (begun !== encoder.begun || isReady && encoder.waiting.length === 0) encoder.silentMs = 0;
      else encoder.silentMs += LOOK_MS;
      encoder.begun = begun;
      if (encoder.silentMs > this.#seconds * 1000) return this.#break(this.#refusal(encoder, isReady));
    }
  }

  #refusal({ row }: Encoder, isReady: boolean): InputError {
    const bounds = `${this.#seconds} s or more than ${HEAP_MB} MB of memory`;
    const accepted = "a tokenizer, a chat template and rows that take less";
    if (!isReady) {
      return new InputError(`Reading the model's tokenizer took more than ${bounds}.`, {
        path: [{ file: "tokenizer.json" }],
        accepted,
      });
    }
    return new InputError((place) => `Making tokens of ${place} took more than ${bounds}.`, {
      path: [{ row: Atomics.load(row, 1) }],
      accepted,
    });
  }

  #break(error: Error): void {
    this.#broken ??= error;
    this.#started.reject(this.#broken);
    for (const { waiting } of this.#encoders) {
      for (const { reject } of waiting.splice(0)) reject(this.#broken);
    }
    this[Symbol.dispose]();
  }
}

function broken(why: string): Error {
  return new Error(`A thread that makes tokens broke: ${why}`);
}

function poolSize(): number {
  return Math.max(1, Math.min(navigator.hardwareConcurrency - 1, MOST_WORKERS));
}
