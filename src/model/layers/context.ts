import type { Budget } from "../batch.ts";
import type { BatchBuffers } from "../batch_buffers.ts";
import type { ModelConfig } from "../config.ts";
import type { Buffers } from "./buffers.ts";
import type { LinearScratch } from "./linear.ts";
import type { Rotary } from "./rotary.ts";

/** What the layers of a pass are made with. */
export interface LayerContext {
  readonly config: ModelConfig;
  readonly budget: Budget;
  /** Whether there will be a backward. */
  readonly train: boolean;
  readonly batch: BatchBuffers;
  /** Where a layer puts what no other needs after it. */
  readonly scratch: Buffers;
}

/** What the layers of one block are made with. */
export interface BlockContext extends LayerContext {
  /** Where a block keeps what its backward needs of its forward; several blocks may have the same. */
  readonly kept: Buffers;
  /** Whether that is still there in the backward, so that nothing is computed again. */
  readonly lasting: boolean;
  readonly linear: LinearScratch;
  /** null where keys and queries are not rotated. */
  readonly rotary: Rotary | null;
  readonly window: number | null;
}
