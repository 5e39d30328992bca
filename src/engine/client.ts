import { DeviceLostError, Interrupted } from "../errors.ts";
import { logger } from "../log.ts";
import { fromPlainError } from "../plain_error.ts";
import { TextEngine } from "../text/engine.ts";
import { type CallMessage, type FromWorker, type ToWorker, Wish, type WorkerOptions } from "./_messages.ts";
import { EnginePool } from "./pool.ts";
import type { CallName, CallOptions, Calls, Engine } from "./protocol.ts";
import { takeWorker } from "./spawn.ts";
import { stopped } from "./stopped.ts";

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
  /** Called where a Worker ends by itself: nothing can be asked of the engine any more. */
  readonly onBroken?: (error: Error) => void;
}

/**
 * Starts the Worker that owns the GPU.
 *
 * @throws {InputError} where no device of the wanted kind answers
 */
export async function startEngine(
  { device, allowSoftware, memoryLimitBytes, promptCacheBytes, tuningFolder, onBroken }: EngineOptions,
): Promise<Engine> {
  const options = {
    device: device === "auto" && !allowSoftware ? "gpu" as const : device,
    ...(memoryLimitBytes !== undefined && { memoryLimitBytes }),
    ...(promptCacheBytes != null && { promptCacheBytes }),
  };
  const worker = new WorkerEngine(options, tuningFolder ?? null, onBroken ?? (() => {}));
  const engine = new TextEngine(new EnginePool([worker]));
  try {
    await engine.call("device", null);
    return engine;
  } catch (error) {
    await engine.stop();
    throw error;
  }
}

/** A call whose answer has not come. */
interface Pending extends Pick<CallOptions<CallName>, "onItem" | "onLoading"> {
  readonly name: CallName;
  readonly wish: Wish;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly answer: Promise<unknown>;
}

/** One Worker with one device. */
class WorkerEngine implements Engine {
  readonly trainingSlots = 1;
  readonly #worker = takeWorker();
  readonly #pending = new Map<number, Pending>();
  readonly #onBroken: (error: Error) => void;
  readonly #ended = Promise.withResolvers<void>();
  #nextId = 0;
  /** Why no more calls are taken. */
  #refusal: Error | null = null;
  #closed = false;

  constructor(options: WorkerOptions, tuningFolder: string | null, onBroken: (error: Error) => void) {
    this.#onBroken = onBroken;
    this.#worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#break(new DeviceLostError(`The GPU worker broke: ${event.message}`));
    };
    this.#post({ type: "open", options, tuningFolder });
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    { signal, onItem, onLoading }: CallOptions<Name> = {},
  ): Promise<Calls[Name]["result"]> {
    signal?.throwIfAborted();
    if (this.#refusal) throw this.#refusal;
    const id = this.#nextId++;
    const wish = new Wish();
    const { promise: answer, resolve, reject } = Promise.withResolvers<Calls[Name]["result"]>();
    this.#pending.set(id, { name, wish, resolve, reject, answer, onItem, onLoading });
    this.#post({ type: "call", id, name, request, wish: wish.buffer } satisfies CallMessage<Name>);
    const onAbort = () => this.#interrupt(id, howOf(signal?.reason));
    signal?.addEventListener("abort", onAbort);
    try {
      return await answer;
    } finally {
      signal?.removeEventListener("abort", onAbort);
    }
  }

  async stop(): Promise<void> {
    const why = stopped();
    this.#refusal ??= why;
    const jobs: Promise<unknown>[] = [];
    for (const [id, { name, answer, reject }] of this.#pending) {
      this.#interrupt(id, "stop");
      if (name === "train") jobs.push(answer);
      else reject(why);
    }
    await Promise.allSettled(jobs);
    this.#close(why);
    await this.#ended.promise;
  }

  #interrupt(id: number, how: Interrupted["how"]): void {
    this.#pending.get(id)?.wish.interrupt(how);
    this.#post({ type: "interrupt", id });
  }

  #receive(message: FromWorker): void {
    if (message.type === "closed") return this.#ended.resolve();
    if (message.type === "weights") return logWeights(message);
    if (message.type === "warning") {
      return log.warn("{warning}", { warning: message.message, folder: message.folder });
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if (message.type === "loading") return pending.onLoading?.(message.progress);
    if (message.type === "items") return message.items.forEach((item) => pending.onItem?.(item as never));
    this.#pending.delete(message.id);
    if (message.type === "done") pending.resolve(message.value as never);
    else pending.reject(fromPlainError(message.error));
  }

  #break(error: Error): void {
    // Before those that wait are told: whoever owns the engine decides what becomes of their work.
    if (!this.#refusal) this.#onBroken(error);
    this.#close(error);
    this.#ended.resolve();
  }

  #close(why: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#refusal ??= why;
    for (const { reject } of this.#pending.values()) reject(why);
    this.#pending.clear();
    this.#post({ type: "close" });
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}

function howOf(reason: unknown): Interrupted["how"] {
  return reason instanceof Interrupted ? reason.how : "cancel";
}

function logWeights({ model, bytes, seconds }: Extract<FromWorker, { type: "weights" }>): void {
  const gb = Number((bytes / 1e9).toPrecision(3));
  if (seconds === null) return log.info("Loading {gb} GB of {model}.", { gb, model });
  const values = { gb, model, seconds: Number(seconds.toFixed(1)) };
  log.info("Loaded {gb} GB of {model} in {seconds} s.", values);
}
