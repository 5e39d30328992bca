/** The matrix products of y = x W^T, W [outputs, inputs], and of its gradients. */
import type { Tensor } from "../../gpu/mod.ts";
import { type Matmul, recordMatmul } from "../../gpu/ops/matmul.ts";
import type { BatchCounts, BatchLive } from "../batch.ts";
import type { Recording } from "./recording.ts";

/** What a product does beside. */
type More = Omit<Partial<Matmul<BatchLive>>, "layout" | "a" | "b" | "c" | "size">;
/** Rows of x and y that are live. */
type Rows = (counts: BatchCounts) => number;

/** y = x W^T */
export function recordOutput(
  { gpu, program }: Recording,
  [x, w, y]: readonly [Tensor, Tensor, Tensor],
  rows: Rows,
  more: More = {},
): void {
  const size = (live: BatchLive) => ({ m: rows(live), k: w.shape[1]! });
  recordMatmul(gpu, program, { layout: "NT", a: x, b: w, c: y, size, ...more });
}

/** d_x = d_y W */
export function recordInputGrad(
  { gpu, program }: Recording,
  [d_y, w, d_x]: readonly [Tensor, Tensor, Tensor],
  rows: Rows,
  more: More = {},
): void {
  const size = (live: BatchLive) => ({ m: rows(live), k: w.shape[0]! });
  recordMatmul(gpu, program, { layout: "NN", a: d_y, b: w, c: d_x, size, ...more });
}

/** d_W += alpha * d_y^T x */
export function recordWeightGrad(
  { gpu, program }: Recording,
  [d_y, x, d_w]: readonly [Tensor, Tensor, Tensor],
  rows: Rows,
  alpha: number,
): void {
  const size = (live: BatchLive) => ({ m: d_w.shape[0]!, k: rows(live) });
  recordMatmul(gpu, program, { layout: "TN", a: d_y, b: x, c: d_w, size, alpha, accumulate: true });
}
