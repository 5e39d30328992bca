import type { Gpu, Program } from "../../gpu/mod.ts";
import type { BatchLive } from "../batch.ts";

/** Where layers record what they compute. */
export interface Recording {
  readonly gpu: Gpu;
  readonly program: Program<BatchLive>;
}
