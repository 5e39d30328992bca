import type { KernelPolicy } from "../policy.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import type { Live } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Tensor } from "../tensor.ts";
import type { Constants } from "../wgsl.ts";
import { gateShader } from "./elementwise.ts";
import type { Product } from "./matmul.ts";
import { panelColumns } from "./matmul_panels.ts";
import { splitLength } from "./matmul_splits.ts";
import { CANDIDATES, MATMUL_TILES, shapeClass, tileKey } from "./matmul_tiles.ts";
import chunksPrelude from "../../../shaders/lib/chunks.wgsl" with { type: "text" };
import operandsSource from "../../../shaders/lib/matmul_operands.wgsl" with { type: "text" };
import registersSource from "../../../shaders/software/matmul_registers.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/matmul_tiled.wgsl" with { type: "text" };

/** Sizes of a product. */
type MatmulSize = Readonly<Record<"m" | "n" | "k", number>>;

/** How a product is dispatched. */
export interface MatmulPlan {
  /** The most that the operands have and C has room for. */
  readonly most: MatmulSize;
  /** Columns of C that are written. */
  readonly n: number;
  readonly kernel: Kernel;
  /** The block of C that one workgroup computes. */
  readonly rows: number;
  readonly columns: number;
  /** Steps of k that one workgroup sums, of those of one dispatch. */
  readonly k_split: number;
  /** Columns of B that are copied into panels at a time; 0: none. */
  readonly slab: number;
}

const LAYOUTS = { NT: 0, NN: 1, TN: 2 } as const;

/**
 * Longest sum of one dispatch, a multiple of every kernel's step: Mesa 22 ends all loops of an invocation early after
 * 65,535 iterations together, and partial sums keep f32 accumulation exact enough.
 */
export const MAX_K = 65536;

/** @throws {RangeError} where a bias or gates would wait for a second part of the sum */
export function planMatmul<L extends Live>(policy: KernelPolicy, product: Product<L>): MatmulPlan {
  const { layout, a, b, c, low_rank, bias, residual, gate, accumulate = false } = product;
  const most = mostOf(product);
  const n = product.n ?? most.n;
  if ((bias || gate) && most.k > MAX_K) {
    throw new RangeError(
      `matmul ${layout} of ${a.name} and ${b.name}: ${most.k} steps pass ${MAX_K} with a bias or gates.`,
    );
  }
  const steps = Math.min(most.k, MAX_K);
  const plain = !low_rank && !bias && !residual && !gate;
  const divisible = policy.matmul === "tiled" && plain && isAligned(a, b, c) && n % 4 === 0;
  const shared = divisible && (layout === "TN" || !policy.row_invariant);
  const k_split = shared ? splitLength(layout, most.m, n, steps) : steps;
  const readsC = k_split === steps && (accumulate || gate !== undefined || most.k > MAX_K || n % 4 !== 0);
  const tile = chooseTile(policy, product, most.m, n, readsC);
  const slab = policy.matmul === "tiled" ? 0 : panelColumns(product, most, tile.columns);
  return { most, n, ...tile, k_split, slab };
}

function mostOf<L extends Live>({ layout, a, b, c }: Product<L>): MatmulSize {
  return {
    m: Math.min(c.shape[0]!, a.shape[layout === "TN" ? 1 : 0]!),
    n: Math.min(c.shape[1]!, b.shape[layout === "NT" ? 0 : 1]!),
    k: Math.min(a.shape[layout === "TN" ? 0 : 1]!, b.shape[layout === "NT" ? 1 : 0]!),
  };
}

/** Whether a kernel can add the residual as it stores; else C begins as its copy. */
export function addsResidual<L extends Live>(product: Product<L>): boolean {
  const { a, b, c } = product;
  const most = mostOf(product);
  const { n = most.n } = product;
  return isAligned(a, b, c) && n % 4 === 0 && n > 16 && most.k <= MAX_K;
}

/** Whether a kernel can sum the low-rank update with the product without loading all operands one by one. */
export function sumsLowRank<L extends Live>({ a, b, c, low_rank, gate }: Product<L>): boolean {
  return !low_rank || gate !== undefined || !isAligned(a, b, c) || isAligned(low_rank.u, low_rank.v);
}

/** Whether all rows start at multiples of 4 elements. */
function isAligned(...tensors: readonly Tensor[]): boolean {
  return tensors.every((tensor) => tensor.shape[1]! % 4 === 0);
}

/**
 * The kernel for outputs of at most m x n. A narrow or low output gets a block of its shape; rows that start at no
 * multiple of 4 elements are loaded one by one, for which one block serves all.
 */
function chooseTile<L extends Live>(
  policy: KernelPolicy,
  { layout, a, b, c, low_rank, bias, residual, gate }: Product<L>,
  m: number,
  n: number,
  readsC: boolean,
): Pick<MatmulPlan, "kernel" | "rows" | "columns"> {
  const aligned = isAligned(a, b, c, ...low_rank ? [low_rank.u, low_rank.v] : []);
  const kernelOf = (source: string, block: string, constants: Constants) =>
    defineKernel({
      name: `matmul_${policy.matmul}_${layout}_${b.dtype}_${block}${aligned ? "" : "_unaligned"}${
        gate ? `_gated_${gate}` : residual ? "_residual" : readsC ? "_adds" : ""
      }${low_rank ? "_low_rank" : ""}${bias ? "_bias" : ""}`,
      source,
      preludes: [
        operandsSource,
        STORAGE[b.dtype],
        ...gate ? [chunksPrelude, ...gateShader(gate).preludes] : [],
      ],
      constants: {
        LAYOUT: LAYOUTS[layout],
        PARTS: low_rank ? 2 : 1,
        ALIGNED: Number(aligned),
        READS_C: Number(readsC),
        BIASED: Number(bias !== undefined),
        RESIDUAL: Number(residual !== undefined),
        GATED: Number(gate !== undefined),
        ...gate && gateShader(gate).constants,
        ...constants,
      },
    });
  if (policy.matmul === "tiled") {
    const shape = shapeClass(m, n);
    const name = !aligned ? "64x64" : policy.tiles[tileKey(layout, shape)] ?? CANDIDATES[shape][0]!;
    const tile = MATMUL_TILES[name];
    const kernel = kernelOf(tiledSource, name, { ...tile, WIDTH: 4 });
    return { kernel, rows: tile.TILE_M, columns: tile.TILE_N };
  }
  const shared = policy.matmul === "subgroup";
  const rows = !aligned ? 16 : fitting(shared ? [8, 16, 32] : [8, 16], m);
  const columns = !aligned ? 4 : fitting(shared ? [1, 2, 4, 8] : [1, 2, 4, 8, 16], n / 8);
  const width = columns < 4 ? 1 : 4;
  const kernel = kernelOf(registersSource, `${rows}x${columns}`, {
    SHARED: Number(shared),
    ROWS: rows,
    COLUMNS: columns / width,
    WIDTH: width,
  });
  return { kernel, rows, columns: kernel.workgroup[0] * columns };
}

/** The smallest of the rising sizes that holds `needed`, else the largest. */
function fitting(sizes: readonly number[], needed: number): number {
  return sizes.find((size) => size >= needed) ?? sizes.at(-1)!;
}
