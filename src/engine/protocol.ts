/** What crosses the line between the main thread and the Worker that owns the GPU. Plain data only. */
import type { Text } from "../preference/rows.ts";
import type { TrainingSettings } from "../training/settings.ts";

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

export interface ScoreRequest {
  /** Absolute directory of the model. */
  readonly model: string;
  /** Absolute directory of PEFT adapter files or of full weights; null: the model as it is. */
  readonly adapter: string | null;
  readonly items: readonly { readonly prompt: Text; readonly candidates: readonly Text[] }[];
  /** Reward = beta times the average log-prob. */
  readonly beta: number;
  readonly token_logprobs: boolean;
}

export interface ScoredCandidate {
  /** Place in the request, from 0. */
  readonly index: number;
  /** 1 is the best; ties keep the request's order. */
  readonly rank: number;
  readonly average_logprob: number;
  readonly sum_logprob: number;
  /** Scored response tokens. */
  readonly num_tokens: number;
  /** beta times average_logprob. */
  readonly reward: number;
  /** Whether the prompt was cut to fit the model's context. */
  readonly truncated: boolean;
  readonly tokens?: readonly string[];
  readonly token_logprobs?: readonly number[];
}

export interface Usage {
  readonly prompt_tokens: number;
  readonly candidate_tokens: number;
  readonly total_tokens: number;
}

export interface ScoredItem {
  /** In the candidates' order. */
  readonly results: readonly ScoredCandidate[];
  /** Index of the candidate ranked first. */
  readonly best: number;
  /** The best's average log-prob over the second's; null where there is one candidate. */
  readonly margin: number | null;
  readonly usage: Usage;
}

/** Rows by path (absolute) or in the request itself. */
export type Dataset = { readonly path: string } | { readonly rows: readonly unknown[] };

export interface TrainRequest {
  readonly id: string;
  /** Absolute directory of the base model. */
  readonly model: string;
  readonly dataset: Dataset;
  readonly eval_dataset: Dataset | null;
  readonly settings: TrainingSettings;
  /** The job's own folder, absolute: `checkpoints/` and `result/` are made in it. */
  readonly directory: string;
}

export type TrainEvent =
  /** Sent once rows are tokenised and the model is loaded. */
  | {
    readonly type: "status";
    readonly status: "running";
    readonly total_steps: number;
    readonly resumed_from: number;
  }
  | { readonly type: "left_out"; readonly split: "train" | "eval"; readonly rows: readonly LeftOutRow[] }
  | {
    readonly type: "progress";
    readonly step: number;
    readonly total_steps: number;
    readonly tokens_per_second: number;
    readonly seconds_remaining: number;
  }
  /** Flat, by TRL's names; the same seed gives the same numbers, so no timing. */
  | { readonly type: "metrics"; readonly step: number; readonly metrics: Readonly<Record<string, number>> }
  | { readonly type: "checkpoint"; readonly step: number }
  | { readonly type: "warning"; readonly message: string };

/** A row that could not be used, by its number in the file or list (from 1). */
export interface LeftOutRow {
  readonly row: number;
  readonly reason: string;
}

/** `stopped`: the worker was asked to stop; the job goes on from its checkpoint at the next start. */
export interface TrainOutcome {
  readonly outcome: "succeeded" | "cancelled" | "stopped";
  readonly step: number;
}

/** Bytes of GPU buffers by the engine's own account. */
export interface MemoryReport {
  readonly bytes: number;
  readonly peak_bytes: number;
  readonly by_name: Readonly<Record<string, number>>;
}

/** The GPU's one owner, seen from the main thread. */
export interface Engine {
  device(): Promise<DeviceReport>;
  /** Yields the items in order, each as soon as it is scored. @throws InputError */
  score(request: ScoreRequest): AsyncIterable<ScoredItem>;
  /** Runs or resumes a job. @throws InputError where the job's input is at fault */
  train(request: TrainRequest, onEvent: (event: TrainEvent) => void): Promise<TrainOutcome>;
  /** Ends the job after the current micro-batch. */
  cancel(id: string): void;
  memory(): Promise<MemoryReport>;
  /** Takes no more work, checkpoints a running job, closes the Worker. */
  stop(): Promise<void>;
}
