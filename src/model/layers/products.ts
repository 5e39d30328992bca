/** The matrix products of y = x W^T, W [outputs, inputs], and of its gradients. */
import { type MatmulOptions, type MatmulTensors, recordMatmul } from "../../gpu/ops/matmul.ts";
import type { BatchCounts, BatchLive } from "../batch.ts";
import type { Recording } from "./recording.ts";

/** What becomes of a product. */
type Options = Omit<Partial<MatmulOptions<BatchLive>>, "layout" | "size">;
/** Rows of x and y that are live. */
type Rows = (counts: BatchCounts) => number;

/** Records a product over the live rows. */
type Product<More> = (recording: Recording, tensors: MatmulTensors, rows: Rows, more: More) => void;

/** y = x W^T, as a, b and c. */
export const recordOutput: Product<Options> = ({ program }, tensors, rows, options) => {
  const size = (live: BatchLive) => ({ m: rows(live), k: tensors.b.shape[1]! });
  recordMatmul(program, tensors, { layout: "NT", size, ...options });
};

/** d_x = d_y W, of d_y, W and d_x as a, b and c. */
export const recordInputGrad: Product<Options> = ({ program }, tensors, rows, options) => {
  const size = (live: BatchLive) => ({ m: rows(live), k: tensors.b.shape[0]! });
  recordMatmul(program, tensors, { layout: "NN", size, ...options });
};

/** d_W += alpha * d_y^T x, of d_y, x and d_W as a, b and c. */
export const recordWeightGrad: Product<number> = ({ program }, tensors, rows, alpha) => {
  const size = (live: BatchLive) => ({ m: tensors.c.shape[0]!, k: rows(live) });
  recordMatmul(program, tensors, { layout: "TN", size, alpha, accumulate: true });
};
