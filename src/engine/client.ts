import { DeviceLostError, InputError } from "../errors.ts";
import { logger } from "../log.ts";
import { fromPlainError } from "../plain_error.ts";
import { CONTROL, type FromWorker, type ToWorker } from "./_messages.ts";
import type {
  DeviceReport,
  Engine,
  LoadProgress,
  MemoryReport,
  ScoredItem,
  ScoredSequence,
  ScoreOptions,
  ScoreRequest,
  SequenceRequest,
  TrainEvent,
  TrainOutcome,
  TrainRequest,
} from "./protocol.ts";

const log = logger("engine");

/** Which device is taken, and what may be done with it. */
export interface EngineOptions {
  /** `auto` takes a GPU where one answers. */
  readonly device: "gpu" | "software" | "auto";
  /** Whether `auto` may fall back to the software driver. */
  readonly allowSoftware: boolean;
  /** Bytes of GPU buffers that may be held at one time. */
  readonly memoryLimitBytes?: number;
  /** Bytes of keys and values of repeated prompts that stay on the GPU; 0: none. Unless given the device decides. */
  readonly promptCacheBytes?: number | null;
  /** Folder in which the fastest kernels of an adapter are kept; without it they are neither sought nor kept. */
  readonly tuningFolder?: string;
  /** Called where the Worker ends by itself: nothing can be asked of the engine any more. */
  readonly onBroken?: (error: Error) => void;
}

/** What waits for an answer of the Worker. */
interface Pending {
  readonly resolve: (value: TrainOutcome | MemoryReport | null) => void;
  readonly reject: (error: Error) => void;
  readonly onItems?: (items: readonly (ScoredItem | ScoredSequence)[]) => void;
  readonly onEvent?: (event: TrainEvent) => void;
  readonly onLoading?: ((progress: LoadProgress) => void) | undefined;
}

/**
 * Starts the Worker that owns the GPU.
 *
 * @throws {InputError} where no device of the wanted kind answers
 */
export async function startEngine(
  { device, allowSoftware, memoryLimitBytes, promptCacheBytes, tuningFolder, onBroken }: EngineOptions,
): Promise<Engine> {
  const kind = device === "auto" && !allowSoftware ? "gpu" : device;
  const client = new Client(onBroken ?? (() => {}));
  try {
    const options = {
      device: kind,
      ...(memoryLimitBytes !== undefined && { memoryLimitBytes }),
      ...(promptCacheBytes != null && { promptCacheBytes }),
    };
    await client.open(options, tuningFolder ?? null);
  } catch (error) {
    await client.stop();
    throw error;
  }
  return client;
}

class Client implements Engine {
  readonly #worker = new Worker(new URL("./worker.ts", import.meta.url), { type: "module", name: "gpu" });
  readonly #control = new SharedArrayBuffer(CONTROL.words * Int32Array.BYTES_PER_ELEMENT);
  readonly #pending = new Map<number, Pending>();
  readonly #opened = Promise.withResolvers<DeviceReport>();
  readonly #ended = Promise.withResolvers<void>();
  #training: { readonly id: string; readonly ended: Promise<unknown> } | null = null;
  #nextId = 0;
  #closed: Error | null = null;

  constructor(onBroken: (error: Error) => void) {
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      const error = new DeviceLostError(`The GPU worker broke: ${event.message}`);
      // Before those that wait are told: whoever owns the engine decides what becomes of their work.
      if (!this.#closed) onBroken(error);
      this.#close(error);
      this.#ended.resolve();
    };
    this.#opened.promise.catch(() => {});
  }

  async open(
    options: Extract<ToWorker, { type: "open" }>["options"],
    tuningFolder: string | null,
  ): Promise<void> {
    this.#post({ type: "open", options, tuningFolder, control: this.#control });
    await this.#opened.promise;
  }

  device(): Promise<DeviceReport> {
    return this.#opened.promise;
  }

  score(request: ScoreRequest, options?: ScoreOptions): AsyncGenerator<ScoredItem> {
    return this.#items((id) => ({ type: "score", id, request }), options);
  }

  scoreSequences(request: SequenceRequest, options?: ScoreOptions): AsyncGenerator<ScoredSequence> {
    return this.#items((id) => ({ type: "sequences", id, request }), options);
  }

  /** What the Worker answers to a message, item by item. */
  async *#items<T extends ScoredItem | ScoredSequence>(
    message: (id: number) => ToWorker,
    { signal, onLoading }: ScoreOptions = {},
  ): AsyncGenerator<T> {
    signal?.throwIfAborted();
    const arrived: T[] = [];
    let wake = Promise.withResolvers<void>();
    let done = false;
    const { id, answer } = this.#request(message, {
      onItems: (items) => {
        arrived.push(...items as readonly T[]);
        wake.resolve();
      },
      onLoading,
    });
    const abort = () => wake.resolve();
    signal?.addEventListener("abort", abort);
    let failure: { error: unknown } | null = null;
    answer.then(() => {}, (error) => failure = { error }).finally(() => {
      done = true;
      wake.resolve();
    });
    try {
      while (true) {
        while (arrived.length > 0) yield arrived.shift()!;
        if (failure) throw (failure as { error: unknown }).error;
        if (done) return;
        signal?.throwIfAborted();
        await wake.promise;
        wake = Promise.withResolvers();
      }
    } finally {
      signal?.removeEventListener("abort", abort);
      if (!done && !this.#closed) {
        this.#pending.delete(id);
        this.#post({ type: "abandon", id });
      }
    }
  }

  async train(request: TrainRequest, onEvent: (event: TrainEvent) => void): Promise<TrainOutcome> {
    if (this.#training) throw new Error(`Job ${this.#training.id} is training already.`);
    Atomics.store(new Int32Array(this.#control), CONTROL.cancel, 0);
    const { answer } = this.#request((id) => ({ type: "train", id, request }), { onEvent });
    this.#training = { id: request.id, ended: answer.catch(() => {}) };
    try {
      return await answer as TrainOutcome;
    } finally {
      this.#training = null;
    }
  }

  cancel(id: string): void {
    if (this.#training?.id === id) Atomics.store(new Int32Array(this.#control), CONTROL.cancel, 1);
  }

  async memory(): Promise<MemoryReport> {
    return await this.#request((id) => ({ type: "memory", id }), {}).answer as MemoryReport;
  }

  async stop(): Promise<void> {
    Atomics.store(new Int32Array(this.#control), CONTROL.stop, 1);
    await this.#training?.ended;
    this.#close(stopped());
    await this.#ended.promise;
  }

  #request(
    message: (id: number) => ToWorker,
    handlers: Omit<Pending, "resolve" | "reject">,
  ): { id: number; answer: Promise<TrainOutcome | MemoryReport | null> } {
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<TrainOutcome | MemoryReport | null>();
    if (this.#closed) {
      reject(this.#closed);
    } else {
      this.#pending.set(id, { ...handlers, resolve, reject });
      this.#post(message(id));
    }
    return { id, answer: promise };
  }

  #receive(message: FromWorker): void {
    if (message.type === "closed") return this.#ended.resolve();
    if (message.type === "opened") return this.#opened.resolve(message.report);
    if (message.type === "failed" && message.id === null) {
      return this.#opened.reject(fromPlainError(message.error));
    }
    if (message.type === "weights") return logWeights(message);
    const pending = this.#pending.get(message.id!);
    if (!pending) return;
    if (message.type === "loading") return pending.onLoading?.(message.progress);
    if (message.type === "items") return pending.onItems?.(message.items);
    if (message.type === "event") return pending.onEvent?.(message.event);
    this.#pending.delete(message.id!);
    if (message.type === "done") pending.resolve(message.value);
    else pending.reject(fromPlainError(message.error));
  }

  #close(why: Error): void {
    if (this.#closed) return;
    this.#closed = why;
    this.#opened.reject(why);
    for (const { reject } of this.#pending.values()) reject(why);
    this.#pending.clear();
    this.#post({ type: "close" });
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}

function logWeights({ model, bytes, seconds }: Extract<FromWorker, { type: "weights" }>): void {
  const gb = Number((bytes / 1e9).toPrecision(3));
  if (seconds === null) return log.info("Loading {gb} GB of {model}.", { gb, model });
  const values = { gb, model, seconds: Number(seconds.toFixed(1)) };
  log.info("Loaded {gb} GB of {model} in {seconds} s.", values);
}

function stopped(): InputError {
  return new InputError("The worker is stopping and takes no more work.", {
    path: ["worker"],
    accepted: "a request to a worker that is ready",
    status: 503,
  });
}
