import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import { recordElements } from "./launch.ts";
import type { MatmulLayout } from "./matmul_tiles.ts";
import source from "../../../shaders/sum_splits.wgsl" with { type: "text" };

/** Sums of shares of k that one product may have: 1 MiB. */
export const PARTIAL_SUMS = 2 ** 18;
/** Fewer steps of k are not worth a workgroup of their own; a multiple of every tile's TILE_K. */
const LEAST_SPLIT = 128;

/**
 * Steps of k that one workgroup sums. A small output with many of them (the gradients of LoRA's factors, products of a
 * few tokens) would leave most of a GPU without work, so workgroups share them. The choice depends on no tile, since
 * digits depend on it; it was made for a GPU of a hundred multiprocessors, and its speed has not been measured.
 *
 * @returns `k` where one workgroup sums all
 */
export function splitLength(layout: MatmulLayout, m: number, n: number, k: number): number {
  if (layout !== "TN" && m > 16) return k; // rows of tokens, which come in larger numbers
  const splits = Math.min(Math.floor(PARTIAL_SUMS / (m * n)), Math.floor(k / LEAST_SPLIT));
  return splits < 2 ? k : Math.ceil(k / splits / LEAST_SPLIT) * LEAST_SPLIT;
}

/** What is stored of the sums of the shares. */
export interface SplitSums {
  readonly m: number;
  readonly n: number;
  readonly splits: number;
  readonly alpha: number;
  readonly accumulate: boolean;
}

/** Records C (+)= alpha times the sum of the shares, in their order. */
export function recordSplitSums<L extends Live>(
  program: Program<L>,
  tensors: Tensors<"partials" | "c">,
  sums: (live: L) => SplitSums,
): void {
  recordElements(program, { name: "sum_splits", source }, tensors, (live) => {
    const { m, n, splits, alpha, accumulate } = sums(live);
    const params = { m, n, splits, c_stride: tensors.c.shape[1]!, accumulate: Number(accumulate), alpha };
    return { params, elements: splits > 0 || !accumulate ? m * n / 4 : 0 };
  });
}
