/** Which tiles suit an adapter, by trying: rules of thumb for one GPU are wrong by half on another. */
import { join } from "node:path";
import type { Gpu } from "../device.ts";
import { Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { recordMatmul } from "./matmul.ts";
import {
  CANDIDATES,
  MATMUL_TILES,
  type MatmulLayout,
  type MeasuredTiles,
  shapeClass,
  tileKey,
  type TileName,
} from "./matmul_tiles.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../../private_files.ts";
import operandsSource from "../../../shaders/lib/matmul_operands.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/matmul_tiled.wgsl" with { type: "text" };

/** A product of each class that has several candidates: m, n, k. */
const SHAPES: readonly (readonly [number, number, number])[] = [
  [128, 1024, 1024],
  [1024, 1024, 1024],
  [2048, 4096, 1024],
];
const LAYOUTS: readonly MatmulLayout[] = ["NT", "NN", "TN"];
const ROUNDS = 5;
/** A candidate that is faster by less than this may owe it to noise. */
const WORTHWHILE = 0.97;

/**
 * Times the candidates of every layout and class, one at a turn, so that whoever drives the turns can let other work in.
 * The digits of a product do not depend on its tile: every output is summed in the order of k, in the same shares.
 *
 * @param shapes m, n, k, each of another class; multiples of 4
 * @param time milliseconds of a recorded product
 * @returns the fastest tiles, those by {@link CANDIDATES} where nothing is clearly faster
 * @throws {GpuMemoryError} where the operands do not fit (at most 56 MiB unless `shapes` are given)
 */
export async function* measureMatmulTiles(
  gpu: Gpu,
  shapes: typeof SHAPES = SHAPES,
  time: (program: Program, tile: TileName) => Promise<number> = (program) => fastest(gpu, program),
): AsyncGenerator<void, MeasuredTiles> {
  const tiles: Record<string, TileName> = {};
  for (const layout of LAYOUTS) {
    for (const [m, n, k] of shapes) {
      const shape = shapeClass(m, n);
      const key = tileKey(layout, shape);
      let best = { tile: CANDIDATES[shape][0]!, milliseconds: Infinity };
      for (const tile of CANDIDATES[shape]) {
        const milliseconds = await timed(gpu, layout, [m, n, k], tile, (program) => time(program, tile));
        if (milliseconds < best.milliseconds * WORTHWHILE) best = { tile, milliseconds };
        yield;
      }
      tiles[key] = best.tile;
    }
  }
  return tiles;
}

/** What `time` says of a product by a tile. Nothing is held before and after: a turn may be long in coming. */
async function timed(
  gpu: Gpu,
  layout: MatmulLayout,
  [m, n, k]: readonly [number, number, number],
  tile: TileName,
  time: (program: Program) => Promise<number>,
): Promise<number> {
  const shapes = [layout === "TN" ? [k, m] : [m, k], layout === "NT" ? [n, k] : [k, n], [m, n]];
  const operands = await gpu.tensors(
    shapes.map((shape, i) => ({ name: `tuning.${"abc"[i]}`, shape, dtype: "f32" as const })),
  );
  const tiles = { ...gpu.policy.tiles, [tileKey(layout, shapeClass(m, n))]: tile };
  const program = new Program(gpu, "tuning", { ...gpu.policy, tiles });
  try {
    const [a, b, c] = operands as [Tensor, Tensor, Tensor];
    recordMatmul(program, { a, b, c }, { layout, size: () => ({ m, k }) });
    return await time(program);
  } finally {
    program.free();
    gpu.free(...operands);
  }
}

/** The shortest of several runs, by the device's own clock where it has one. */
async function fastest(gpu: Gpu, program: Program): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const start = performance.now();
    const stamped = gpu.adapter.features.has("timestamp-query") ? await program.profile({}) : program.run({});
    await gpu.settle();
    times.push(stamped?.[0]?.milliseconds ?? performance.now() - start);
  }
  return Math.min(...times.slice(1)); // the first compiles
}

/** What was measured on this adapter with these kernels. @returns null where nothing was, or it cannot be read */
export async function readTiles(gpu: Gpu, folder: string): Promise<MeasuredTiles | null> {
  try {
    const { tiles } = JSON.parse(await Deno.readTextFile(await tilesFile(gpu, folder)));
    const known = Object.values(tiles).every((tile) => Object.hasOwn(MATMUL_TILES, tile as string));
    return known ? tiles : null;
  } catch {
    return null; // measured anew
  }
}

/** Keeps what was measured for the next process. */
export async function writeTiles(gpu: Gpu, folder: string, tiles: MeasuredTiles): Promise<void> {
  const file = await tilesFile(gpu, folder);
  await Deno.mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER });
  await Deno.writeTextFile(`${file}.part`, JSON.stringify({ adapter: adapterName(gpu), tiles }, null, 2), {
    mode: PRIVATE_FILE,
  });
  await Deno.rename(`${file}.part`, file);
}

/** Another adapter, driver or kernel has another file. */
async function tilesFile(gpu: Gpu, folder: string): Promise<string> {
  const kernels = JSON.stringify([MATMUL_TILES, CANDIDATES, operandsSource, tiledSource]);
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(adapterName(gpu) + kernels));
  return join(folder, `matmul-${new Uint8Array(hash).toHex().slice(0, 16)}.json`);
}

function adapterName({ adapter }: Gpu): string {
  const { vendor, architecture, device, description } = adapter.info;
  return [vendor, architecture, device, description].join(" / ");
}
