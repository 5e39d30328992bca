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
}

interface Encoder {
  readonly worker: Worker;
  /** Who waits for an answer, in the order of their batches. */
  readonly waiting: PromiseWithResolvers<EncodedBatch>[];
}

/** Each holds a tokenizer of its own: about 200 MB with 128k entries. */
const MOST_WORKERS = 4;
/** A few hundred long rows: the start of a Worker takes as long. */
const SMALL_CHARACTERS = 2 ** 21;
/** Batches of which each Worker has a second while it does the first. */
const BATCHES_A_WORKER = 2;

/**
 * Tokenises batches in Workers of its own, which need the processor alone. They start when a data set turns out to be a
 * large one; what they make of a batch is what {@link encodeBatch} makes of it.
 */
export class EncodePool implements Disposable {
  readonly #job: EncodeJob;
  /** Workers, started or to be started. */
  readonly size: number;
  readonly #after: number;
  readonly #onStart: () => void;
  readonly #workers: Worker[] = [];
  readonly #ready: Encoder[] = [];
  readonly #started = Promise.withResolvers<void>();
  #broken: Error | null = null;
  #seen = 0;

  constructor(
    job: EncodeJob,
    { size = poolSize(), after = SMALL_CHARACTERS, onStart = () => {} }: PoolOptions = {},
  ) {
    this.#job = job;
    this.size = size;
    this.#after = after;
    this.#onStart = onStart;
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
   * @throws Error where a Worker has broken
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
    if (this.#workers.length === 0) {
      for (let i = 0; i < this.size; i++) this.#add();
      this.#onStart();
    }
    return this.#started.promise;
  }

  /** Ends the Workers, whatever they are at. */
  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker.terminate();
  }

  #add(): void {
    const worker = new Worker(new URL("./encode_worker.ts", import.meta.url), {
      type: "module",
      name: "tokens",
    });
    const encoder: Encoder = { worker, waiting: [] };
    worker.onmessage = ({ data }: MessageEvent<FromEncoder>) => {
      if ("ready" in data) {
        if (this.#ready.push(encoder) === this.size) this.#started.resolve();
      } else if ("encoded" in data) encoder.waiting.shift()?.resolve(data.encoded);
      else encoder.waiting.shift()?.reject(fromPlainError(data.error));
    };
    worker.onerror = (event) => {
      event.preventDefault(); // the process is not to end by it
      this.#broken ??= new Error(`A thread that makes tokens broke: ${event.message}`);
      this.#started.reject(this.#broken);
      for (const { waiting } of this.#ready) {
        for (const { reject } of waiting.splice(0)) reject(this.#broken);
      }
    };
    worker.postMessage({ job: this.#job } satisfies ToEncoder);
    this.#workers.push(worker);
  }
}

function poolSize(): number {
  return Math.max(1, Math.min(navigator.hardwareConcurrency - 1, MOST_WORKERS));
}
