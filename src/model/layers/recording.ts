import type { Program } from "../../gpu/mod.ts";
import type { BatchLive } from "../batch.ts";

/** Where layers record what they compute. */
export interface Recording {
  readonly program: Program<BatchLive>;
}
