import type { MeasuredTiles } from "./ops/matmul_tiles.ts";

/** Matrix kernels to choose from; see shaders/matmul_tiled.wgsl and shaders/software/matmul_registers.wgsl. */
export type MatmulDesign = "subgroup" | "direct" | "tiled";

/**
 * How attention's work is divided. `lanes` suits the software driver: 8 tokens a workgroup, keys passed between its 8
 * lanes, no workgroup memory. `tiled` suits GPUs: 32 tokens a workgroup, tiles of keys in workgroup memory; it runs
 * anywhere.
 */
export type AttentionDesign = "lanes" | "tiled";

/** Which kernels suit a device; a program records with the one that it is given. */
export interface KernelPolicy {
  readonly matmul: MatmulDesign;
  readonly attention: AttentionDesign;
  /** Invocations that share a row in kernels of shaders/lib/rows.wgsl. */
  readonly row_lanes: 1 | 64;
  /**
   * Keeps the bits of a product's row from depending on how many rows are beside it, or on the budget. The software
   * driver's kernels never do; tiled ones share the steps of k of at most 16 rows among workgroups unless this is set, which
   * leaves a GPU with few rows idle.
   */
  readonly row_invariant: boolean;
  /** Tiles of matrix products that were measured on the adapter; they change no digit of a result. */
  readonly tiles: MeasuredTiles;
}

/** @param subgroupSize lanes of a subgroup; 0 where subgroups are not to be had */
export function policyFor(
  { software, subgroupSize }: { readonly software: boolean; readonly subgroupSize: number },
): KernelPolicy {
  const lanes = software && subgroupSize === 8;
  return {
    matmul: lanes ? "subgroup" : software ? "direct" : "tiled",
    attention: lanes ? "lanes" : "tiled",
    row_lanes: software ? 1 : 64,
    row_invariant: false,
    tiles: {},
  };
}
