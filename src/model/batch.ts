/** A batch as programs see it: live numbers within a budget. */
import type { Live } from "../gpu/mod.ts";

/** How much of the budget an uploaded batch fills. */
export interface BatchCounts {
  readonly tokens: number;
  /** Scored tokens. */
  readonly rows: number;
  /** Responses. */
  readonly sequences: number;
  /** Distinct token ids; 0 where the embedding is frozen. */
  readonly distinct: number;
  /** Distinct positions; 0 where they are not learned, or frozen. */
  readonly distinct_positions: number;
}

/** Live numbers of one batch. */
export interface BatchLive extends Live, BatchCounts {
  /** 0: nothing is dropped. */
  readonly dropout_seed: number;
}

/** The most that one batch may hold. */
export interface Budget {
  readonly tokens: number;
  /** Scored tokens. */
  readonly rows: number;
  /** Responses. */
  readonly sequences: number;
}
