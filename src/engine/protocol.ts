/** What may be asked of the Worker that owns the GPU: a row a call. Plain data only: it crosses between threads. */
import type { Inspection } from "../api/inspection.ts";
import { Interrupted } from "../errors.ts";
import type { LoadProgress } from "../model/loading.ts";
import type { TokenScoreRequest, TokenSequenceRequest } from "../scoring/encode_request.ts";
import type {
  ScoredItem,
  ScoredSequence,
  ScoredTokens,
  ScoreRequest,
  ScoringWeights,
  SequenceRequest,
} from "../scoring/request.ts";
import type { InspectRequest } from "../training/inspect.ts";
import type { TrainEvent, TrainOutcome, TrainRequest } from "../training/request.ts";

export type { LoadProgress } from "../model/loading.ts";
export type * from "../scoring/request.ts";
export type { InspectRequest } from "../training/inspect.ts";
export type { MemoryPlan } from "../training/memory_plan.ts";
export type { Dataset, RowSource, TrainEvent, TrainOutcome, TrainRequest } from "../training/request.ts";

/** What a call is asked, what it tells on its way, and its answer. */
interface Call<Request, Item = never, Result = null> {
  readonly request: Request;
  readonly item: Item;
  readonly result: Result;
}

/** The calls. Each has its handler in `handlers.ts`, or is made of others by the engine that reads texts. */
export interface Calls {
  device: Call<null, never, DeviceReport>;
  memory: Call<null, never, MemoryReport>;
  /** Ranks candidates; the items in order, each as soon as it is scored. */
  score: Call<ScoreRequest, ScoredItem>;
  /** Scores whole sequences, in order. */
  sequences: Call<SequenceRequest, ScoredSequence>;
  /** Reads the weights that a scoring call will ask for, while its texts become tokens. */
  load: Call<ScoringWeights>;
  /** As `score`, of items that are tokens: what the device's thread is asked. */
  score_tokens: Call<TokenScoreRequest, ScoredItem>;
  /** As `sequences`, of tokens. */
  sequence_tokens: Call<TokenSequenceRequest, ScoredTokens>;
  /** Tokenises a job's rows and tells what they become; no device is needed. */
  inspect: Call<InspectRequest, never, Inspection>;
  /** Runs or resumes a job. */
  train: Call<TrainRequest, TrainEvent, TrainOutcome>;
}

/** A row of {@link Calls}. */
export type CallName = keyof Calls;

/** What the caller does beside waiting for the answer. */
export interface CallOptions<Name extends CallName> {
  /**
   * Ends the call. With an {@link Interrupted} as its reason that says `stop`, a training run leaves a checkpoint to go on
   * from; else it is cancelled.
   */
  readonly signal?: AbortSignal | undefined;
  /** A promise says when the item is done with: a call whose items are not waits with more of them. */
  readonly onItem?: ((item: Calls[Name]["item"]) => void | Promise<void>) | undefined;
  /** Called a few times a second while the call waits for its model's weights to be read. */
  readonly onLoading?: ((progress: LoadProgress) => void) | undefined;
}

/** The GPU's one owner, or several, seen from the main thread. */
export interface Engine {
  /** Training calls that may run at one time. */
  readonly trainingSlots: number;
  /** Why it answers nothing at the moment, as where it is being restarted; null where it does. */
  readonly trouble?: string | null;
  /**
   * Asks for something.
   *
   * @returns the answer, after the last item
   * @throws {InputError} where the request is at fault, with status 503 once the engine stops
   * @throws {DeviceLostError}
   */
  call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    options?: CallOptions<Name>,
  ): Promise<Calls[Name]["result"]>;
  /** Takes no more calls, has running jobs leave a checkpoint, closes its Workers. */
  stop(): Promise<void>;
}

/** What {@link stream} may have beside its request. */
export type StreamOptions = Pick<CallOptions<CallName>, "signal" | "onLoading">;

/**
 * A call's items as they come. Who leaves before the last ends the call.
 *
 * @throws what the call throws, or the signal's reason
 */
export async function* stream<Name extends CallName>(
  engine: Engine,
  name: Name,
  request: Calls[Name]["request"],
  { signal, onLoading }: StreamOptions = {},
): AsyncGenerator<Calls[Name]["item"]> {
  signal?.throwIfAborted();
  const arrived: { readonly item: Calls[Name]["item"]; readonly taken: () => void }[] = [];
  let wake = Promise.withResolvers<void>();
  let end: { readonly error?: unknown } | null = null;
  const leaving = new AbortController();
  const onItem = (item: Calls[Name]["item"]) => {
    const { promise, resolve: taken } = Promise.withResolvers<void>();
    arrived.push({ item, taken });
    wake.resolve();
    return promise;
  };
  engine.call(name, request, { signal: leaving.signal, onItem, onLoading })
    .then(() => end = {}, (error) => end = { error })
    .finally(() => wake.resolve());
  const onAbort = () => wake.resolve();
  signal?.addEventListener("abort", onAbort);
  try {
    while (true) {
      while (arrived.length > 0) {
        const { item, taken } = arrived.shift()!;
        yield item;
        taken();
      }
      const ended = end as { readonly error?: unknown } | null;
      if (ended && "error" in ended) throw ended.error;
      if (ended) return;
      signal?.throwIfAborted();
      await wake.promise;
      wake = Promise.withResolvers();
    }
  } finally {
    signal?.removeEventListener("abort", onAbort);
    leaving.abort(new Interrupted("cancel"));
  }
}

/** Which device answered, and what it can do. */
export interface DeviceReport {
  readonly kind: "gpu" | "software";
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  readonly subgroups: boolean;
  readonly f16: boolean;
  /** The matmul design in use. */
  readonly matmul: string;
}

/** Bytes of GPU buffers by the engine's own account. */
export interface MemoryReport {
  readonly bytes: number;
  readonly peak_bytes: number;
  /** What is left for more; null where no limit is set and the driver does not tell. */
  readonly free_bytes: number | null;
  readonly by_name: Readonly<Record<string, number>>;
}
