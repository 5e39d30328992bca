/** What a training run is asked, and what it says. Plain data only: it crosses into the Worker and back. */
import type { SlicedFiles } from "../preference/data_files.ts";
import type { LeftOut } from "../preference/left_out.ts";
import type { RowsReport } from "../preference/row_reader.ts";
import type { Comparison } from "../preference/rows.ts";
import type { ColumnNames } from "../preference/shapes/columns.ts";
import type { PairChoice } from "../preference/shapes/pairs.ts";
import type { MemoryPlan } from "./memory_plan.ts";
import type { TrainingSettings } from "../api/settings.ts";

/**
 * Rows by path (absolute), in many files or slices of them one after another, or those that came with the request; and how
 * they are read.
 */
export type RowSource =
  & ({ readonly path: string } | { readonly paths: readonly (string | SlicedFiles)[] } | GivenRows)
  & {
    readonly columns?: ColumnNames | undefined;
    readonly pairs?: PairChoice | undefined;
    /** How often a row comes in an epoch; once where it is left out. */
    readonly weight?: number | undefined;
    /** How many of the first rows are read; all where it is left out. */
    readonly limit?: number | undefined;
  };

interface GivenRows {
  readonly comparisons: readonly Comparison[];
  /** What was made of the rows as they came. */
  readonly report?: RowsReport;
}

/** The rows of a run: of one source, or of several one after another. */
export type Dataset = RowSource | readonly RowSource[];

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
  /** Whether it goes on over rows, a tokenizer or weights that have changed since its checkpoint; refused unless given. */
  readonly accept_changes?: boolean;
  /** The buffer of the {@link TokenSignal} that says when the rows are tokens; they are already where it is left out. */
  readonly tokens?: SharedArrayBuffer;
}

/** What a run tells while it goes on. */
export type TrainEvent =
  /** What an earlier life has left is known, and the rows may be read. It goes no further than the engine. */
  | { readonly type: "settled" }
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
  /** What the rows of a split were read as; once for each split. */
  | {
    readonly type: "rows";
    readonly split: "train" | "eval";
    readonly rows: number;
    readonly shapes: RowsReport["shapes"];
  }
  /** Once for each split that has such rows. */
  | { readonly type: "left_out"; readonly split: "train" | "eval" } & LeftOut
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

/** How a run ended, and after how many steps. `stopped`: the worker was asked to stop; the job goes on from its checkpoint at the next start. */
export interface TrainOutcome {
  readonly outcome: "succeeded" | "cancelled" | "stopped";
  readonly step: number;
  /** What it had of the device's time that requests wanted too, 0 to 1; null: they wanted none. */
  readonly device_share?: number | null;
}
