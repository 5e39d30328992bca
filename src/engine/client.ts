import { DeviceLostError, InputError, Interrupted } from "../errors.ts";
import { logger } from "../log.ts";
import { fromPlainError } from "../plain_error.ts";
import { TextEngine } from "../text/engine.ts";
import { type FromWorker, type ToWorker, Wish, type WorkerOptions } from "./_messages.ts";
import { Crashes } from "./crashes.ts";
import { Heartbeat } from "./heartbeat.ts";
import { dependsOn, readJournal, type ScoringWork, scoringWork } from "./journal.ts";
import { EnginePool } from "./pool.ts";
import type { CallName, CallOptions, Calls, DeviceReport, Engine } from "./protocol.ts";
import { takeWorker } from "./spawn.ts";
import { LIMITS, type Limits, Watchdog } from "./watchdog.ts";
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
  /** Of the device's time that training and scoring both want, what training gets: 0 to 1; half of it unless given. */
  readonly trainShare?: number;
  /** Whether an idle device compiles what the first score of most models needs. */
  readonly compileAhead?: boolean;
  /** Folder in which the fastest kernels of an adapter are kept; without it they are neither sought nor kept. */
  readonly tuningFolder?: string;
  /** Folder of the journal, which says after a crash what was under way; without it none is kept. */
  readonly journalFolder?: string;
  /**
   * Whether its thread stays once it has stopped, without a device: for those who end the process next. A process that
   * ends while the thread is on its way out crashes in the software driver.
   */
  readonly leaveThread?: boolean;
  /** Called where the engine has broken and cannot be started again: nothing can be asked of it any more. */
  readonly onBroken?: (error: Error) => void;
  /** How long the engine's thread may stand still; the device decides unless given (tests). */
  readonly limits?: Limits;
  /** Starts its Worker (tests). */
  readonly spawn?: () => Worker;
}

/**
 * Starts the Worker that owns the GPU.
 *
 * @throws {InputError} where no device of the wanted kind answers
 */
export async function startEngine(
  { device, allowSoftware, memoryLimitBytes, promptCacheBytes, trainShare, compileAhead, ...rest }:
    EngineOptions,
): Promise<Engine> {
  const options = {
    device: device === "auto" && !allowSoftware ? "gpu" as const : device,
    ...(memoryLimitBytes !== undefined && { memoryLimitBytes }),
    ...(promptCacheBytes != null && { promptCacheBytes }),
    ...(trainShare !== undefined && { trainShare }),
    ...(compileAhead !== undefined && { compileAhead }),
  };
  const {
    tuningFolder = null,
    journalFolder = null,
    leaveThread = false,
    onBroken = () => {},
    limits = null,
    spawn = takeWorker,
  } = rest;
  const worker = new WorkerEngine({
    options,
    tuningFolder,
    journalFolder,
    leaveThread,
    onBroken,
    limits,
    spawn,
  });
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
  readonly request: Calls[CallName]["request"];
  /** What the engine is charged with where it breaks under a step of it; null where it is no scoring call. */
  readonly work: ScoringWork | null;
  readonly wish: Wish;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  readonly answer: Promise<unknown>;
  /** Items that the caller was handed. */
  delivered: number;
  /** Of those, the ones that come again from a Worker that does the call anew. */
  repeated: number;
  /** Workers that broke under it, or while it waited. */
  restarts: number;
}

/** What a {@link WorkerEngine} is made of. */
interface EngineParts {
  readonly options: WorkerOptions;
  readonly tuningFolder: string | null;
  readonly journalFolder: string | null;
  readonly leaveThread: boolean;
  readonly onBroken: (error: Error) => void;
  readonly limits: Limits | null;
  readonly spawn: () => Worker;
}

/** Times that a call is begun anew in another Worker. */
const MOST_REPEATS = 2;
/** Workers in a row that may break before any of them has answered a call for scores or to train. */
const MOST_RESTARTS = 6;
/** Seconds after which a call may come again that was under way as the engine broke. */
const RETRY_AFTER = 10;

/** One device, in a Worker that is replaced where it breaks or hangs. */
class WorkerEngine implements Engine {
  readonly trainingSlots = 1;
  readonly #parts: EngineParts;
  readonly #crashes: Crashes;
  readonly #pending = new Map<number, Pending>();
  readonly #ended = Promise.withResolvers<void>();
  #worker!: Worker;
  #watchdog!: Watchdog;
  #heartbeat!: Heartbeat;
  #limits: Limits;
  #nextId = 0;
  #restarts = 0;
  #trouble: string | null = null;
  /** Why no more calls are taken. */
  #refusal: Error | null = null;
  #closed = false;

  constructor(parts: EngineParts) {
    this.#parts = parts;
    this.#limits = parts.limits ?? LIMITS.software;
    this.#crashes = new Crashes(parts.journalFolder);
    const work = parts.journalFolder === null ? null : readJournal(parts.journalFolder)?.work;
    if (work) this.#crashes.charge(work);
    this.#start();
  }

  get trouble(): string | null {
    return this.#trouble;
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    { signal, onItem, onLoading }: CallOptions<Name> = {},
  ): Promise<Calls[Name]["result"]> {
    signal?.throwIfAborted();
    const work = scoringWork(name, request);
    if (work !== null && this.#crashes.any) await this.#crashes.check(work);
    signal?.throwIfAborted();
    if (this.#refusal) throw this.#refusal;
    const id = this.#nextId++;
    const wish = new Wish();
    const { promise: answer, resolve, reject } = Promise.withResolvers<Calls[Name]["result"]>();
    const counts = { delivered: 0, repeated: 0, restarts: 0 };
    const pending = { name, request, work, wish, resolve, reject, answer, onItem, onLoading, ...counts };
    this.#pending.set(id, pending);
    this.#send(id, pending);
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

  /** Starts a Worker with what watches over it. */
  #start(): void {
    const { options, tuningFolder, journalFolder, spawn } = this.#parts;
    const worker = this.#worker = spawn();
    const heartbeat = this.#heartbeat = new Heartbeat();
    worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.#receive(data);
    worker.onerror = (event) => {
      event.preventDefault();
      this.#replace(`The GPU worker broke: ${event.message}.`);
    };
    this.#post({ type: "open", options, tuningFolder, journalFolder, heartbeat: heartbeat.buffer });
    this.#watchdog = new Watchdog({
      heartbeat,
      limits: () => this.#limits,
      impatient: () =>
        this.#pending.values().some(({ name, wish }) => name === "train" && wish.now !== "continue"),
      onStuck: (why) => this.#replace(why),
    });
  }

  /**
   * Ends the Worker and starts another. The call whose step was under way is refused; a job is told that its device was
   * lost, and whoever else waits does not notice.
   */
  #replace(why: string): void {
    const culprit = this.#heartbeat.call;
    const { work = null } = culprit === null ? {} : this.#pending.get(culprit) ?? {};
    this.#watchdog[Symbol.dispose]();
    this.#worker.onmessage = null;
    this.#worker.onerror = (event) => event.preventDefault();
    const error = new DeviceLostError(why, work === null);
    if (this.#refusal || this.#restarts++ === MOST_RESTARTS) return this.#break(error);
    this.#worker.terminate();
    log.error("{why} The engine is started again.", { why });
    this.#trouble = `${why} The engine is starting again.`;
    if (work !== null) this.#crashes.charge(work);
    for (const [id, pending] of this.#pending) {
      const gone = pending.name === "train"
        ? error
        : work !== null && (id === culprit || dependsOn(pending.work, work)) ||
            pending.restarts++ === MOST_REPEATS
        ? restarted(why)
        : null;
      if (gone === null) continue;
      this.#pending.delete(id);
      pending.reject(gone);
    }
    this.#start();
    void this.#reopen();
    for (const [id, pending] of this.#pending) {
      pending.repeated = pending.delivered;
      this.#send(id, pending);
    }
  }

  /** Waits for the new Worker's device; where it cannot be had in time nothing can be asked of the engine any more. */
  async #reopen(): Promise<void> {
    const worker = this.#worker;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`It did not answer in ${this.#limits.device} s.`)),
      this.#limits.device * 1000,
    );
    try {
      await Promise.race([this.call("device", null), late.promise]);
      if (worker === this.#worker) this.#trouble = null;
    } catch (error) {
      if (worker !== this.#worker || this.#closed) return;
      this.#break(new DeviceLostError(`The device could not be opened again: ${(error as Error).message}`));
    } finally {
      clearTimeout(timer);
    }
  }

  #send(id: number, { name, request, wish }: Pending): void {
    this.#post({ type: "call", id, name, request, wish: wish.buffer });
    // a Worker that takes a call over has heard of no interruption
    if (wish.now !== "continue") this.#post({ type: "interrupt", id });
  }

  #interrupt(id: number, how: Interrupted["how"]): void {
    this.#pending.get(id)?.wish.interrupt(how);
    this.#post({ type: "interrupt", id });
  }

  #receive(message: FromWorker): void {
    if (message.type === "closed") return this.#end();
    if (message.type === "weights") return logWeights(message);
    if (message.type === "warning") {
      return log.warn("{warning}", { warning: message.message, folder: message.folder });
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if (message.type === "loading") return pending.onLoading?.(message.progress);
    if (message.type === "items") return message.items.forEach((item) => deliver(pending, item));
    this.#pending.delete(message.id);
    if (message.type === "failed") return pending.reject(fromPlainError(message.error));
    if (pending.name === "device") {
      this.#limits = this.#parts.limits ?? LIMITS[(message.value as DeviceReport).kind];
    }
    if (pending.name === "train" || pending.work !== null) this.#restarts = 0;
    if (pending.work !== null) this.#crashes.clear(pending.work);
    pending.resolve(message.value as never);
  }

  #break(error: Error): void {
    // Before those that wait are told: whoever owns the engine decides what becomes of their work.
    if (!this.#refusal) this.#parts.onBroken(error);
    this.#close(error);
    this.#end();
  }

  #close(why: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#refusal ??= why;
    for (const { reject } of this.#pending.values()) reject(why);
    this.#pending.clear();
    this.#post({ type: "close" });
  }

  #end(): void {
    this.#watchdog[Symbol.dispose]();
    if (!this.#parts.leaveThread) this.#worker.terminate();
    this.#ended.resolve();
  }

  #post(message: ToWorker): void {
    this.#worker.postMessage(message);
  }
}

function deliver(pending: Pending, item: unknown): void {
  if (pending.repeated > 0) {
    pending.repeated--;
    return;
  }
  pending.delivered++;
  const { onItem, wish } = pending;
  const taken = onItem?.(item as never);
  if (taken instanceof Promise) void taken.then(() => wish.take());
  else wish.take();
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

function restarted(why: string): InputError {
  return new InputError(`${why} The engine is starting again: send the request again in ${RETRY_AFTER} s.`, {
    path: ["worker"],
    accepted: "a request to a worker that is ready, as GET /readyz says",
    status: 503,
    retryAfter: RETRY_AFTER,
  });
}
