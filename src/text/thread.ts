import { Worker } from "node:worker_threads";
import { listening } from "../abort.ts";
import { InputError, type Path } from "../errors.ts";
import { logger } from "../log.ts";
import { fromPlainError } from "../plain_error.ts";
import type { FromText, Start, ToText } from "./_messages.ts";
import type { TextCallName, TextCalls } from "./calls.ts";
import { Culprits } from "./culprits.ts";
import { Pulse, type Stage } from "./pulse.ts";

const log = logger("text");

/** What a thread may take. */
export interface TextBounds {
  /** Seconds of one step: a text that is tokenised, a conversation that is rendered, a file that is read. */
  readonly seconds: number;
  /** Megabytes of its heap. */
  readonly heapMb: number;
  /** Seconds of one step after which calls for other files are done in another thread. */
  readonly patience: number;
}

/** A tokenizer of 128k entries takes 200 MB and is read in two seconds. */
const BOUNDS: TextBounds = { seconds: 10, heapMb: 1024, patience: 3 };
/** Seconds after which a thread that has not started is started anew. */
const START_SECONDS = 60;
/** Milliseconds between two looks at the pulse. */
const LOOK_MS = 250;
/** Threads that may end under a call that is not known to be at fault. */
const MOST_LIVES = 3;

/** A call whose answer has not come. */
interface Pending {
  readonly name: TextCallName;
  readonly request: TextCalls[TextCallName]["request"];
  readonly signal: AbortSignal | undefined;
  readonly onItem: (item: never) => void;
  readonly resolve: (value: never) => void;
  readonly reject: (error: Error) => void;
  lives: number;
}

/** A started thread. */
interface Started {
  readonly worker: Worker;
  readonly port: MessagePort;
  readonly pulse: Pulse;
}

/**
 * A thread that reads what others wrote, and that is replaced when a step of it takes too long or too much: whose call that
 * was is refused, the others' are done again in the new one. Before that a second one does what is asked for other files.
 */
export class TextThread {
  readonly #bounds: TextBounds;
  readonly #culprits: Culprits;
  readonly #pending = new Map<number, Pending>();
  #started: Started | null = null;
  #nextId = 0;
  #timer: ReturnType<typeof setInterval> | null = null;
  /** Of the pulse when it was last looked at, and for how many milliseconds it has been so. */
  #beats = 0;
  #silentMs = 0;
  #lookedAt = 0;
  /** What others are served by while a step takes long. */
  #second: TextThread | null = null;

  /** @param culprits of the thread that this one is the second of */
  constructor(bounds: Partial<TextBounds> = {}, culprits?: Culprits) {
    this.#bounds = { ...BOUNDS, ...bounds };
    this.#culprits = culprits ?? new Culprits();
  }

  /** Starts the thread ahead of the first call. */
  start(): void {
    if (this.#started) return;
    const pulse = new Pulse();
    const { port1: port, port2 } = new MessageChannel();
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      name: "text",
      workerData: { port: port2, pulse: pulse.buffer } satisfies Start,
      transferList: [port2 as never],
      resourceLimits: { maxOldGenerationSizeMb: this.#bounds.heapMb, maxYoungGenerationSizeMb: 64 },
    });
    const started: Started = { worker, port, pulse };
    // A heap that is full ends it without an event, but for one that is full before its module has run.
    worker.on("error", (error) => {
      if (this.#started === started) this.#replace(error.message);
    });
    port.onmessage = ({ data }: MessageEvent<FromText>) => this.#receive(data);
    this.#started = started;
    this.#beats = 0;
    this.#silentMs = 0;
  }

  /**
   * Asks for something.
   *
   * @throws {InputError} where the request is at fault, or takes too long or too much
   * @throws the signal's reason once it aborts
   */
  async call<Name extends TextCallName>(
    name: Name,
    request: TextCalls[Name]["request"],
    signal?: AbortSignal,
    onItem: (item: TextCalls[Name]["item"]) => void = () => {},
  ): Promise<TextCalls[Name]["result"]> {
    signal?.throwIfAborted();
    this.#culprits.refuse(request);
    if (this.#isLate && !this.#isForSameFiles(request)) {
      return await this.#aside().call(name, request, signal, onItem);
    }
    this.start();
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<TextCalls[Name]["result"]>();
    const pending: Pending = { name, request, signal, onItem, resolve, reject, lives: 0 };
    this.#pending.set(id, pending);
    this.#watch();
    this.#send(id, pending);
    const onAbort = () => {
      if (!this.#pending.delete(id)) return;
      this.#post({ interrupt: id });
      reject(signal?.reason);
    };
    return await listening(signal, onAbort, promise);
  }

  /** Ends the thread; whoever waits hears why. A later call starts another. */
  stop(why: Error): void {
    for (const { reject } of this.#pending.values()) reject(why);
    this.#pending.clear();
    this.#end();
    this.#second?.stop(why);
  }

  #receive(message: FromText): void {
    const pending = this.#pending.get(message.id);
    if (!pending) return;
    if ("item" in message) return pending.onItem(message.item as never);
    this.#pending.delete(message.id);
    if ("excess" in message) {
      const { stage, row, why } = message.excess;
      pending.reject(this.#refusal(pending.request, stage, row, `is too much: ${why}`));
    } else if ("error" in message) pending.reject(fromPlainError(message.error));
    else pending.resolve(message.value as never);
  }

  #send(id: number, { name, request }: Pending): void {
    this.#post({ id, name, request });
  }

  #post(message: ToText): void {
    this.#started?.port.postMessage(message);
  }

  #watch(): void {
    if (this.#timer !== null) return;
    this.#silentMs = 0;
    this.#lookedAt = performance.now();
    this.#timer = setInterval(() => this.#look(), LOOK_MS);
  }

  #look(): void {
    // Where the whole process stood still the thread has too: that is nobody's fault.
    const now = performance.now();
    const passed = Math.min(now - this.#lookedAt, 2 * LOOK_MS);
    this.#lookedAt = now;
    if (this.#pending.size === 0) {
      clearInterval(this.#timer!);
      this.#timer = null;
      if (this.#bounds.patience === Infinity) this.#end();
      return;
    }
    const { beats } = this.#started!.pulse;
    if (beats !== this.#beats) {
      this.#beats = beats;
      this.#silentMs = 0;
      return;
    }
    this.#silentMs += passed;
    const most = beats === 0 ? START_SECONDS : this.#bounds.seconds;
    if (this.#silentMs > most * 1000) this.#replace(`It has done nothing for ${most} s.`);
    else if (this.#isLate) this.#moveOthers();
  }

  /** Whether one step takes so long that others are not to wait for its end. */
  get #isLate(): boolean {
    return this.#silentMs > this.#bounds.patience * 1000 && this.#started?.pulse.call != null;
  }

  /** Whether a request is for the files of the call that the thread is at. */
  #isForSameFiles(request: Pending["request"]): boolean {
    const late = this.#pending.get(this.#started?.pulse.call ?? -1)?.request;
    const filesOf = (request: object) =>
      JSON.stringify(["model", "adapter", "chat_template"].map((name) => request[name as never] ?? null));
    return late !== undefined && filesOf(late) === filesOf(request);
  }

  #moveOthers(): void {
    for (const [id, { name, request, signal, onItem, resolve }] of this.#pending) {
      if (this.#isForSameFiles(request)) continue;
      this.#pending.delete(id);
      this.#post({ interrupt: id });
      resolve(this.#aside().call(name, request, signal, onItem as () => void) as never);
    }
  }

  /** The second thread; it ends whenever it has nothing to do. */
  #aside(): TextThread {
    return this.#second ??= new TextThread({ ...this.#bounds, patience: Infinity }, this.#culprits);
  }

  /** A new thread in place of this one, for all calls but the one that it was at. */
  #replace(why: string): void {
    const { call, stage, row } = this.#started!.pulse;
    this.#end();
    log.warn("A thread that reads texts is replaced: {why}", { why });
    const culprit = call === null ? undefined : this.#pending.get(call);
    if (culprit) {
      this.#pending.delete(call!);
      const error = this.#refusal(culprit.request, stage, row);
      this.#culprits.remember(culprit.request, stage, error);
      culprit.reject(error);
    }
    for (const [id, pending] of this.#pending) {
      if (++pending.lives < MOST_LIVES) continue;
      this.#pending.delete(id);
      pending.reject(this.#refusal(pending.request, "waits"));
    }
    if (this.#pending.size === 0) return;
    this.start();
    for (const [id, pending] of this.#pending) this.#send(id, pending);
  }

  #end(): void {
    const started = this.#started;
    this.#started = null;
    if (!started) return;
    started.port.onmessage = null;
    started.port.close();
    void started.worker.terminate();
  }

  #refusal(request: Pending["request"], stage: Stage, row = 0, why?: string): InputError {
    const { seconds, heapMb } = this.#bounds;
    const { path, what } = PLACES[stage](request);
    const where = row === 0 ? "" : ` in row ${row}`;
    const told = why ?? `took more than ${seconds} s or more than ${heapMb} MB of memory`;
    return new InputError(`${what}${where} ${told}.`, {
      path: row === 0 ? path : [{ row }],
      accepted: `what is done within ${seconds} s and ${heapMb} MB of memory`,
    });
  }
}

/** What of a request is at fault where a stage takes too long. */
const PLACES: Record<Stage, (request: Pending["request"]) => { readonly path: Path; readonly what: string }> =
  {
    waits: () => ({ path: [], what: "Reading the request" }),
    "reads files": () => ({ path: [{ file: "tokenizer.json" }], what: "Reading the model's tokenizer" }),
    "reads a template": () => ({ path: ["chat_template"], what: "Reading the chat template" }),
    "reads a model": () => ({
      path: [{ file: "config.json" }],
      what: "Reading the files of the model or adapter",
    }),
    "reads rows": () => ({ path: [], what: "Reading the data set's files" }),
    renders: (request) => ({
      path: "chat_template" in request && request.chat_template ? ["chat_template"] : ["model"],
      what: "The chat template",
    }),
    tokenises: () => ({
      path: [{ file: "tokenizer.json" }],
      what: "Tokenising a text by tokenizer.json's rules",
    }),
  };

let shared: TextThread | null = null;

/** The thread that all engines and checks of this process share. */
export function textThread(): TextThread {
  shared ??= new TextThread();
  return shared;
}

/** For rows of data sets, whose files are read in larger pieces than a request's texts. */
const ROW_BOUNDS = { seconds: 60, heapMb: 4096 };

/** Gives `work`, which reads data sets, a thread of its own, and ends it. */
export async function withThread<T>(work: (thread: TextThread) => Promise<T>): Promise<T> {
  const thread = new TextThread(ROW_BOUNDS);
  try {
    return await work(thread);
  } finally {
    thread.stop(new Error("The thread's work is over."));
  }
}
