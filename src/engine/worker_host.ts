import { Interrupted } from "../errors.ts";
import { Gpu } from "../gpu/mod.ts";
import type { OnLoad } from "../model/loading.ts";
import {
  type CallMessage,
  type FromWorker,
  toPlainError,
  type ToWorker,
  Wish,
  type WorkerOptions,
} from "./_messages.ts";
import { compileAhead } from "./compile_ahead.ts";
import { Heartbeat } from "./heartbeat.ts";
import { Journal, type ScoringWork, scoringWork } from "./journal.ts";
import { Models } from "./models.ts";
import type { CallName, Calls } from "./protocol.ts";
import { Scheduler } from "./scheduler.ts";
import { useFastestTiles } from "./tuning.ts";

/** Answers a call on the Worker's thread; what it throws is the caller's. */
export type Handler<Name extends CallName> = (
  host: WorkerHost,
  request: Calls[Name]["request"],
  call: RunningCall<Name>,
) => Promise<Calls[Name]["result"]>;

/** A handler a call; calls about texts have none here. */
export type Handlers = { readonly [Name in CallName]?: Handler<Name> };

/** A device and what is on it. */
export interface OpenedDevice {
  readonly gpu: Gpu;
  readonly models: Models;
}

/** The Worker's side of the table: one device, the models on it, and the calls that use them. */
export class WorkerHost {
  readonly #calls = new Map<number, RunningCall<CallName>>();
  /** The main thread's once it is known. */
  #heartbeat = new Heartbeat();
  #journal = new Journal(null);
  #beating: ReturnType<typeof setInterval> | undefined;
  #options: WorkerOptions = { device: "auto" };
  #tuningFolder: string | null = null;
  #opened: Promise<OpenedDevice> | null = null;
  #gpu: Gpu | null = null;
  #scheduler: Scheduler | null = null;

  constructor(private readonly handlers: Handlers, private readonly post: (message: FromWorker) => void) {}

  /** Does what a message says; after `close` nothing may follow. */
  async receive(message: ToWorker): Promise<void> {
    switch (message.type) {
      case "open":
        this.#options = message.options;
        this.#tuningFolder = message.tuningFolder;
        this.#heartbeat = new Heartbeat(message.heartbeat);
        this.#journal = new Journal(message.journalFolder);
        this.#beating = setInterval(() => this.#heartbeat.beat(), BEAT_MS);
        return;
      case "call":
        return await this.#serve(message);
      case "interrupt":
        return this.#calls.get(message.id)?.interrupted.abort();
      case "close":
        // a process that ends while a device is open may crash in the software driver
        (await this.#opened?.catch(() => null))?.gpu.close();
        clearInterval(this.#beating);
        this.#journal[Symbol.dispose]();
        return this.post({ type: "closed" });
    }
  }

  /** Made at the first use: its options come with the first message. */
  get scheduler(): Scheduler {
    return this.#scheduler ??= new Scheduler({
      ...this.#options,
      // Deno's call holds this thread until the device's queue is empty; what it finds is told to whoever waits next.
      settle: () => void this.#gpu?.settle().catch(() => {}),
      around: (id, step) => this.#step(id, step),
      onTurn: () => {
        this.#journal.work = null;
        this.#heartbeat.advance();
      },
    });
  }

  /** The device, opened by the first call. @throws {InputError} where none of the wanted kind answers */
  device(): Promise<OpenedDevice> {
    this.#opened ??= Gpu.open(this.#options).then((gpu) => {
      this.#gpu = gpu;
      gpu.during = (what, work) => this.#heartbeat.during(what, work);
      if (this.#tuningFolder !== null) {
        void useFastestTiles(gpu, this.#tuningFolder, () => this.scheduler.busy);
      }
      if (this.#options.compileAhead) void compileAhead(gpu, () => this.scheduler.busy);
      const report = {
        weights: (model: string) => this.reportWeights(model),
        warning: (folder: string, message: string) => this.post({ type: "warning", folder, message }),
      };
      const { takeBatch } = this.scheduler;
      return { gpu, models: new Models(gpu, report, this.#options.promptCacheBytes, takeBatch) };
    });
    return this.#opened;
  }

  /** Records in the journal that a job holds the device, until it is null. */
  set job(id: string | null) {
    this.#journal.job = id;
  }

  /**
   * A device that has faulted answers nothing more and is opened anew. Where that fails this thread ends by the error: no
   * later call is to be blamed for it.
   */
  async reopenAfterFault(): Promise<void> {
    const before = this.#opened;
    const current = await before?.catch(() => null);
    try {
      current?.gpu.check();
      if (current) return;
    } catch {
      current?.gpu.close();
    }
    if (this.#opened === before) this.#opened = null; // else another call has opened it meanwhile
    if (current) await this.device();
  }

  /** Tells the main thread when a folder's weights begin to be read and when they have been. */
  reportWeights(model: string): OnLoad {
    let start = 0;
    return ({ bytes, total_bytes }) => {
      const now = performance.now();
      if (bytes === 0) {
        start = now;
        this.post({ type: "weights", model, bytes: total_bytes, seconds: null });
      }
      if (bytes === total_bytes) {
        this.post({ type: "weights", model, bytes: total_bytes, seconds: (now - start) / 1000 });
      }
    };
  }

  /** Takes a step of a scoring call, which is charged with what breaks meanwhile. */
  async #step(id: number, step: () => Promise<IteratorResult<void>>): Promise<IteratorResult<void>> {
    const { work } = this.#calls.get(id) ?? { work: null };
    this.#journal.work = work;
    this.#heartbeat.call = id;
    try {
      return await this.#heartbeat.underWay(step);
    } finally {
      this.#heartbeat.call = null;
    }
  }

  async #serve<Name extends CallName>({ id, name, request, wish }: CallMessage<Name>): Promise<void> {
    const work = scoringWork(name, request);
    const call = new RunningCall<Name>(id, new Wish(wish), this.post, work);
    this.#calls.set(id, call);
    try {
      const handler = this.handlers[name];
      if (handler === undefined) throw new Error(`The device's thread knows no call ${name}.`);
      const serve = () => handler(this, request, call);
      // a scoring call may wait for its turn as long as it takes: its steps are what is to get on
      const value = await (work === null ? this.#heartbeat.underWay(serve) : serve());
      this.post({ type: "done", id, value });
    } catch (error) {
      await this.reopenAfterFault();
      this.post({ type: "failed", id, error: toPlainError(error) });
    } finally {
      this.#calls.delete(id);
    }
  }
}

/** Milliseconds between two beats of the thread. */
const BEAT_MS = 100;
/** Items that a caller may leave untaken before its call waits for it. */
const MOST_UNTAKEN = 256;
/** Milliseconds between two reports of progress. */
const REPORT_MS = 200;

/** A call as its handler sees it. */
export class RunningCall<Name extends CallName> {
  /** Aborted by a message of the caller's, which comes late where the thread is busy: {@link wish} comes at once. */
  readonly interrupted = new AbortController();
  #sent = 0;
  #nextReport = 0;

  /** @param work what its steps are charged to; null where it takes none */
  constructor(
    readonly id: number,
    private readonly asked: Wish,
    private readonly post: (message: FromWorker) => void,
    readonly work: ScoringWork | null = null,
  ) {}

  /** What the caller wants of it now. */
  get wish(): Wish["now"] {
    return this.asked.now;
  }

  /** Whether the caller takes items more slowly than they come. */
  get ahead(): boolean {
    return this.asked.untaken(this.#sent) >= MOST_UNTAKEN;
  }

  /** Sends items to the caller. */
  emit(...items: Calls[Name]["item"][]): void {
    this.#sent += items.length;
    if (items.length > 0) this.post({ type: "items", id: this.id, items });
  }

  /**
   * Tells the caller that its model's weights are read: the first report, the last, and of those between a few a second.
   *
   * @throws {Interrupted} where the call is to end
   */
  readonly onLoad: OnLoad = (progress) => {
    const { wish } = this;
    if (wish !== "continue") throw new Interrupted(wish);
    const now = performance.now();
    if (now < this.#nextReport && progress.bytes < progress.total_bytes) return;
    this.#nextReport = now + REPORT_MS;
    this.post({ type: "loading", id: this.id, progress });
  };
}
