/** Messages between the client on the main thread and the Worker; private to the engine. */
import { InputError, type Interrupted } from "../errors.ts";
import type { GpuOptions } from "../gpu/device.ts";
import { GpuMemoryError } from "../gpu/memory.ts";
import { type PlainError, toPlainError as plainError } from "../plain_error.ts";
import type { CallName, Calls, LoadProgress } from "./protocol.ts";

/** How the Worker sets up. */
export interface WorkerOptions extends GpuOptions {
  /** As EngineOptions has it. */
  readonly promptCacheBytes?: number;
  /** As EngineOptions has it. */
  readonly trainShare?: number;
  /** As EngineOptions has it. */
  readonly compileAhead?: boolean;
}

/** One call of the table. */
export interface CallMessage<Name extends CallName> {
  readonly type: "call";
  readonly id: number;
  readonly name: Name;
  readonly request: Calls[Name]["request"];
  /** The buffer of its {@link Wish}. */
  readonly wish: SharedArrayBuffer;
}

/** What the client asks of the Worker; answers carry the `id` of their call. */
export type ToWorker =
  | {
    readonly type: "open";
    readonly options: WorkerOptions;
    readonly tuningFolder: string | null;
    /** Where its journal lies. */
    readonly journalFolder: string | null;
    /** The buffer of its Heartbeat. */
    readonly heartbeat: SharedArrayBuffer;
  }
  | CallMessage<CallName>
  /** The call's wish has changed: for calls that wait and do not look. */
  | { readonly type: "interrupt"; readonly id: number }
  /** The last message: closes the device. */
  | { readonly type: "close" };

/** What the Worker says. */
export type FromWorker =
  | { readonly type: "items"; readonly id: number; readonly items: readonly unknown[] }
  /** Of a call that waits for its model. */
  | { readonly type: "loading"; readonly id: number; readonly progress: LoadProgress }
  /** The end of a call: all its items have come. */
  | { readonly type: "done"; readonly id: number; readonly value: unknown }
  | { readonly type: "failed"; readonly id: number; readonly error: PlainError }
  /** A folder's weights begin to be read, or have been. */
  | {
    readonly type: "weights";
    readonly model: string;
    readonly bytes: number;
    readonly seconds: number | null;
  }
  /** What of a folder's files is not heeded, as it is loaded. */
  | { readonly type: "warning"; readonly folder: string; readonly message: string }
  | { readonly type: "closed" };

const WISHES = ["continue", "cancel", "stop"] as const;

/** What a caller wants of its call, and has of it. It reaches the Worker even while that does not read messages. */
export class Wish {
  /** Index into {@link WISHES}; items that the caller has taken, modulo 2^32. */
  readonly #words: Int32Array<SharedArrayBuffer>;

  /** @param buffer what crosses to the other side; the other side gives it */
  constructor(readonly buffer = new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT)) {
    this.#words = new Int32Array(buffer);
  }

  get now(): "continue" | Interrupted["how"] {
    return WISHES[Atomics.load(this.#words, 0)]!;
  }

  interrupt(how: Interrupted["how"]): void {
    Atomics.store(this.#words, 0, WISHES.indexOf(how));
  }

  /** The caller has taken one more item. */
  take(): void {
    Atomics.add(this.#words, 1, 1);
  }

  /** Of the items that were sent, those that the caller has not taken. */
  untaken(sent: number): number {
    return (sent - Atomics.load(this.#words, 1)) | 0;
  }
}

/** An error as it leaves the Worker: to have no room is the fault of what was asked for. */
export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof GpuMemoryError)) return plainError(error);
  const accepted = "a smaller model, or a smaller micro_batch_tokens";
  return plainError(new InputError(error.message, { path: ["model"], accepted }));
}
