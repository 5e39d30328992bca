/** One device, in a Worker that is replaced where it breaks or hangs. */
import { listening } from "../abort.ts";
import { DeviceLostError, InputError, Interrupted } from "../errors.ts";
import { logger } from "../log.ts";
import { fromPlainError } from "../plain_error.ts";
import { EngineThread } from "./_engine_thread.ts";
import type { FromWorker, WorkerOptions } from "./_messages.ts";
import { PendingCall } from "./_pending_call.ts";
import { Crashes } from "./crashes.ts";
import { dependsOn, readJournal } from "./journal.ts";
import type { CallName, CallOptions, Calls, DeviceReport, Engine } from "./protocol.ts";
import { takeWorker } from "./spawn.ts";
import { stopped } from "./stopped.ts";
import { LIMITS, type Limits } from "./watchdog.ts";

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

/** Times that a call is begun anew in another Worker. */
const MOST_REPEATS = 2;
/** Workers in a row that may break before any of them has answered a call for scores or to train. */
const MOST_RESTARTS = 6;
/** Seconds after which a call may come again that was under way as the engine broke. */
const RETRY_AFTER = 10;

/** One device, in a Worker that is replaced where it breaks or hangs. */
export class WorkerEngine implements Engine {
  readonly trainingSlots = 1;
  readonly #options: EngineOptions;
  readonly #crashes: Crashes;
  readonly #pending = new Map<number, PendingCall>();
  readonly #ended = Promise.withResolvers<void>();
  #thread: EngineThread;
  #limits: Limits;
  #nextId = 0;
  #restarts = 0;
  #trouble: string | null = null;
  /** Why no more calls are taken. */
  #refusal: Error | null = null;
  #closed = false;

  constructor(options: EngineOptions) {
    const { limits = LIMITS.software, journalFolder = null } = this.#options = options;
    this.#limits = limits;
    this.#crashes = new Crashes(journalFolder);
    const work = journalFolder === null ? null : readJournal(journalFolder)?.work;
    if (work) this.#crashes.charge(work);
    this.#thread = this.#start();
  }

  get trouble(): string | null {
    return this.#trouble;
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    options: CallOptions<Name> = {},
  ): Promise<Calls[Name]["result"]> {
    const { signal } = options;
    signal?.throwIfAborted();
    const pending = new PendingCall(name, request, options as CallOptions<CallName>);
    if (pending.work !== null && this.#crashes.any) await this.#crashes.check(pending.work);
    signal?.throwIfAborted();
    if (this.#refusal) throw this.#refusal;
    const id = this.#nextId++;
    this.#pending.set(id, pending);
    this.#send(id, pending);
    const onAbort = () => this.#interrupt(id, howOf(signal?.reason));
    return await listening(signal, onAbort, pending.answer.promise) as Calls[Name]["result"];
  }

  async stop(): Promise<void> {
    const why = stopped();
    this.#refusal ??= why;
    const jobs: Promise<unknown>[] = [];
    for (const [id, pending] of this.#pending) {
      this.#interrupt(id, "stop");
      if (pending.name === "train") jobs.push(pending.answer.promise);
      else pending.answer.reject(why);
    }
    await Promise.allSettled(jobs);
    this.#close(why);
    await this.#ended.promise;
  }

  #start(): EngineThread {
    const { tuningFolder = null, journalFolder = null, spawn = takeWorker } = this.#options;
    const open = { options: workerOptions(this.#options), tuningFolder, journalFolder };
    return new EngineThread(spawn(), open, {
      limits: () => this.#limits,
      impatient: () =>
        this.#pending.values().some(({ name, wish }) => name === "train" && wish.now !== "continue"),
      onMessage: (message) => this.#receive(message),
      onBroken: (why) => this.#replace(why),
    });
  }

  /**
   * Ends the Worker and starts another. The call whose step was under way is refused; a job is told that its device was
   * lost, and whoever else waits does not notice.
   */
  #replace(why: string): void {
    const culprit = this.#thread.call;
    const { work = null } = culprit === null ? {} : this.#pending.get(culprit) ?? {};
    this.#thread.ignore();
    const error = new DeviceLostError(why, work === null);
    if (this.#refusal || this.#restarts++ === MOST_RESTARTS) return this.#break(error);
    this.#thread.terminate();
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
      pending.answer.reject(gone);
    }
    this.#thread = this.#start();
    void this.#reopen();
    for (const [id, pending] of this.#pending) {
      pending.repeat();
      this.#send(id, pending);
    }
  }

  /** Waits for the new Worker's device; where it cannot be had in time nothing can be asked of the engine any more. */
  async #reopen(): Promise<void> {
    const thread = this.#thread;
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`It did not answer in ${this.#limits.device} s.`)),
      this.#limits.device * 1000,
    );
    try {
      await Promise.race([this.call("device", null), late.promise]);
      if (thread === this.#thread) this.#trouble = null;
    } catch (error) {
      if (thread !== this.#thread || this.#closed) return;
      this.#break(new DeviceLostError(`The device could not be opened again: ${(error as Error).message}`));
    } finally {
      clearTimeout(timer);
    }
  }

  #send(id: number, { name, request, wish }: PendingCall): void {
    this.#thread.post({ type: "call", id, name, request, wish: wish.buffer });
    // a Worker that takes a call over has heard of no interruption
    if (wish.now !== "continue") this.#thread.post({ type: "interrupt", id });
  }

  #interrupt(id: number, how: Interrupted["how"]): void {
    this.#pending.get(id)?.wish.interrupt(how);
    this.#thread.post({ type: "interrupt", id });
  }

  #receive(message: FromWorker): void {
    if (message.type === "closed") return this.#end();
    if (message.type === "weights") return logWeights(message);
    if (message.type === "warning") {
      return log.warn("{warning}", { warning: message.message, folder: message.folder });
    }
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if (message.type === "loading") return pending.options.onLoading?.(message.progress);
    if (message.type === "items") return message.items.forEach((item) => pending.deliver(item));
    this.#pending.delete(message.id);
    if (message.type === "failed") return pending.answer.reject(fromPlainError(message.error));
    if (pending.name === "device") {
      this.#limits = this.#options.limits ?? LIMITS[(message.value as DeviceReport).kind];
    }
    if (pending.name === "train" || pending.work !== null) this.#restarts = 0;
    if (pending.work !== null) this.#crashes.clear(pending.work);
    pending.answer.resolve(message.value);
  }

  #break(error: Error): void {
    // Before those that wait are told: whoever owns the engine decides what becomes of their work.
    if (!this.#refusal) this.#options.onBroken?.(error);
    this.#close(error);
    this.#end();
  }

  #close(why: Error): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#refusal ??= why;
    for (const pending of this.#pending.values()) pending.answer.reject(why);
    this.#pending.clear();
    this.#thread.post({ type: "close" });
  }

  #end(): void {
    this.#thread.unwatch();
    if (!this.#options.leaveThread) this.#thread.terminate();
    this.#ended.resolve();
  }
}

/** What of the options crosses to the Worker. */
function workerOptions(
  { device, allowSoftware, memoryLimitBytes, promptCacheBytes, trainShare, compileAhead }: EngineOptions,
): WorkerOptions {
  return {
    device: device === "auto" && !allowSoftware ? "gpu" : device,
    ...(memoryLimitBytes !== undefined && { memoryLimitBytes }),
    ...(promptCacheBytes != null && { promptCacheBytes }),
    ...(trainShare !== undefined && { trainShare }),
    ...(compileAhead !== undefined && { compileAhead }),
  };
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
