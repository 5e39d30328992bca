/** What crosses the line between the main thread and the Worker that owns the GPU. Plain data only. */
import type { LoadProgress } from "../model/loading.ts";
import type { ScoredItem, ScoredSequence, ScoreRequest, SequenceRequest } from "../scoring/request.ts";
import type { TrainEvent, TrainOutcome, TrainRequest } from "../training/request.ts";

export type { LoadProgress } from "../model/loading.ts";
export type {
  LikeliestToken,
  ScoredCandidate,
  ScoredItem,
  ScoredSequence,
  ScoreRequest,
  ScoringWeights,
  SequenceRequest,
  Usage,
} from "../scoring/request.ts";
export type { MemoryPlan } from "../training/memory_plan.ts";
export type { Dataset, LeftOutRow, TrainEvent, TrainOutcome, TrainRequest } from "../training/request.ts";

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

/** What a call to score may have beside its request. */
export interface ScoreOptions {
  /** Ends the call: nobody waits for its answer any more. */
  readonly signal?: AbortSignal;
  /** Called a few times a second while the call waits for its model's weights to be read. */
  readonly onLoading?: (progress: LoadProgress) => void;
}

/** The GPU's one owner, seen from the main thread. */
export interface Engine {
  device(): Promise<DeviceReport>;
  /** Yields the items in order, each as soon as it is scored. @throws InputError, or the signal's reason */
  score(request: ScoreRequest, options?: ScoreOptions): AsyncIterable<ScoredItem>;
  /** Yields the sequences in order, a batch of them at a time. @throws as {@link score} */
  scoreSequences(request: SequenceRequest, options?: ScoreOptions): AsyncIterable<ScoredSequence>;
  /** Runs or resumes a job. @throws InputError where the job's input is at fault */
  train(request: TrainRequest, onEvent: (event: TrainEvent) => void): Promise<TrainOutcome>;
  /** Ends the job after the current micro-batch, or the current piece of the weights. */
  cancel(id: string): void;
  memory(): Promise<MemoryReport>;
  /** Takes no more work, checkpoints a running job, closes the Worker. */
  stop(): Promise<void>;
}
