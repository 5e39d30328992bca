/** What a training run is asked, and what it says. Plain data only: it crosses into the Worker and back. */
import type { Comparison } from "../preference/rows.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import type { TrainingSettings } from "../api/settings.ts";

/** Rows by path (absolute; Parquet or JSONL), in many files one after another, or those that came with the request. */
export type Dataset =
  | { readonly path: string }
  | { readonly paths: readonly string[] }
  | { readonly comparisons: readonly Comparison[] };

/** A job for the engine: everything that a run depends on, and where it works. */
export interface TrainRequest {
  readonly id: string;
  /** Absolute directory of the base model. */
  readonly model: string;
  /** What an adapter's users know the base model by; its folder unless given. */
  readonly base?: { readonly name: string; readonly revision: string | null };
  readonly dataset: Dataset;
  readonly eval_dataset: Dataset | null;
  readonly settings: TrainingSettings;
  /** Absolute directory of the PEFT adapter that training begins with; null for a fresh one. */
  readonly init_adapter: string | null;
  /** The job's own folder, absolute: `checkpoints/` and `result/` are made in it. */
  readonly directory: string;
}

/** What a run tells while it goes on. */
export type TrainEvent =
  /** Sent once rows are tokenised and the model is loaded. */
  | {
    readonly type: "status";
    readonly status: "running";
    readonly total_steps: number;
    readonly resumed_from: number;
  }
  /**
   * Before weights are loaded (after it where they are loaded while a large data set is tokenised), and again where the
   * driver has less room than it was thought to have.
   */
  | { readonly type: "plan"; readonly plan: MemoryPlan }
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

/** How a run ended, and after how many steps. `stopped`: the worker was asked to stop; the job goes on from its checkpoint at the next start. */
export interface TrainOutcome {
  readonly outcome: "succeeded" | "cancelled" | "stopped";
  readonly step: number;
}
