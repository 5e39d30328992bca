/** Blocks of C that the workgroups of matmul_tiled.wgsl compute, and which one a product gets. */

/** A tile of C with the 4 x 4 to 8 x 8 outputs of one invocation; names and rules as in matmul_tiled.wgsl. */
type MatmulTile = Record<"TILE_M" | "TILE_N" | "TILE_K" | "ROWS" | "COLUMNS", number>;

/**
 * All within WebGPU's least limits: 16 KiB of workgroup memory, 256 invocations. TILE_K makes the 4 x 4 blocks of both
 * operands' tiles a multiple of the invocations.
 */
export const MATMUL_TILES = {
  "16x32": { TILE_M: 16, TILE_N: 32, TILE_K: 32, ROWS: 4, COLUMNS: 4 },
  "32x16": { TILE_M: 32, TILE_N: 16, TILE_K: 32, ROWS: 4, COLUMNS: 4 },
  "32x32": { TILE_M: 32, TILE_N: 32, TILE_K: 32, ROWS: 4, COLUMNS: 4 },
  "64x64": { TILE_M: 64, TILE_N: 64, TILE_K: 32, ROWS: 4, COLUMNS: 4 },
  "64x64 by 8x4": { TILE_M: 64, TILE_N: 64, TILE_K: 16, ROWS: 8, COLUMNS: 4 },
  "64x64 by 8x8": { TILE_M: 64, TILE_N: 64, TILE_K: 32, ROWS: 8, COLUMNS: 8 },
  "128x128": { TILE_M: 128, TILE_N: 128, TILE_K: 16, ROWS: 8, COLUMNS: 8 },
} as const satisfies Record<string, MatmulTile>;

/** A tile by its size. */
export type TileName = keyof typeof MATMUL_TILES;

/** Outputs that want one kind of tile: few rows, few columns, or as many as occupy a GPU more and more. */
export type ShapeClass = "low" | "narrow" | "small" | "medium" | "large";

/** How A and B lie in memory: see {@link Matmul}. */
export type MatmulLayout = "NN" | "NT" | "TN";

/** Tiles that were measured on an adapter, by {@link tileKey}. */
export type MeasuredTiles = Readonly<Record<string, TileName>>;

/** Tiles of one class that are worth a try, the first unless another was measured to be faster. */
export const CANDIDATES: Readonly<Record<ShapeClass, readonly TileName[]>> = {
  low: ["16x32"],
  narrow: ["32x16"],
  small: ["64x64", "32x32", "64x64 by 8x4"],
  medium: ["64x64", "64x64 by 8x4", "64x64 by 8x8", "128x128"],
  large: ["128x128", "64x64 by 8x4", "64x64 by 8x8", "64x64"],
};

/** Outputs up to which tiles of 64 x 64 leave most multiprocessors of a large GPU without work. */
const SMALL = 48 * 64 * 64;
/** Outputs from which on tiles of 128 x 128 still give every multiprocessor of a large GPU one or two workgroups. */
const LARGE = 192 * 128 * 128;

/** The class of a product with m x n outputs at most. */
export function shapeClass(m: number, n: number): ShapeClass {
  if (m <= 16) return "low";
  if (n <= 16) return "narrow";
  return m * n >= LARGE ? "large" : m * n <= SMALL ? "small" : "medium";
}

/** What a measured tile is kept under. */
export function tileKey(layout: MatmulLayout, shape: ShapeClass): string {
  return `${layout} ${shape}`;
}
