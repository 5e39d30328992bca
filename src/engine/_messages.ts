/** Messages between the client on the main thread and the Worker; private to the engine. */
import { InputError } from "../errors.ts";
import type { GpuOptions } from "../gpu/device.ts";
import { GpuMemoryError } from "../gpu/memory.ts";
import { type PlainError, toPlainError as plainError } from "../plain_error.ts";
import type {
  DeviceReport,
  LoadProgress,
  MemoryReport,
  ScoredItem,
  ScoredSequence,
  ScoreRequest,
  SequenceRequest,
  TrainEvent,
  TrainOutcome,
  TrainRequest,
} from "./protocol.ts";

/** How the Worker sets up. */
export interface WorkerOptions extends GpuOptions {
  /** As EngineOptions has it. */
  readonly promptCacheBytes?: number;
}

/** What the client asks of the Worker; answers carry the `id` of their question. */
export type ToWorker =
  | {
    readonly type: "open";
    readonly options: WorkerOptions;
    readonly tuningFolder: string | null;
    readonly control: SharedArrayBuffer;
  }
  | { readonly type: "score"; readonly id: number; readonly request: ScoreRequest }
  | { readonly type: "sequences"; readonly id: number; readonly request: SequenceRequest }
  /** Nobody waits for the answer any more. */
  | { readonly type: "abandon"; readonly id: number }
  | { readonly type: "train"; readonly id: number; readonly request: TrainRequest }
  | { readonly type: "memory"; readonly id: number }
  /** The last message: lets go of the device and ends the Worker. */
  | { readonly type: "close" };

/** What the Worker says. */
export type FromWorker =
  | { readonly type: "closed" }
  | { readonly type: "opened"; readonly report: DeviceReport }
  | { readonly type: "items"; readonly id: number; readonly items: readonly (ScoredItem | ScoredSequence)[] }
  | { readonly type: "event"; readonly id: number; readonly event: TrainEvent }
  /** Of a request to score that waits for its model. */
  | { readonly type: "loading"; readonly id: number; readonly progress: LoadProgress }
  /** A folder's weights begin to be read, or have been. */
  | {
    readonly type: "weights";
    readonly model: string;
    readonly bytes: number;
    readonly seconds: number | null;
  }
  /** The end of a request: of a score all items have come. */
  | { readonly type: "done"; readonly id: number; readonly value: TrainOutcome | MemoryReport | null }
  /** The end of a request; of `open` where there is no id. */
  | { readonly type: "failed"; readonly id: number | null; readonly error: PlainError };

/** Words of the control buffer; they reach the Worker even while it does not read messages. */
export const CONTROL = { cancel: 0, stop: 1, words: 2 } as const;

/** An error as it leaves the Worker: to have no room is the fault of what was asked for. */
export function toPlainError(error: unknown): PlainError {
  if (!(error instanceof GpuMemoryError)) return plainError(error);
  const accepted = "a smaller model, or a smaller micro_batch_tokens";
  return plainError(new InputError(error.message, { path: ["model"], accepted }));
}
