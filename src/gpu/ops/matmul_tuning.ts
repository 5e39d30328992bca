/** Which tiles suit an adapter, by trying: rules of thumb for one GPU are wrong by half on another. */
import { join } from "node:path";
import type { Gpu } from "../device.ts";
import { Program } from "../program.ts";
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
import operandsSource from "../../../shaders/matmul_operands.wgsl" with { type: "text" };
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
 * The digits of a product do not depend on its tile: every output is summed in the order of k.
 *
 * @param shapes m, n, k, each of another class; multiples of 4
 * @param time milliseconds of a recorded product
 * @returns the fastest tiles, those by {@link CANDIDATES} where nothing is clearly faster
 * @throws {GpuMemoryError} where the operands do not fit (60 MiB unless `shapes` are given)
 */
export async function* measureMatmulTiles(
  gpu: Gpu,
  shapes: typeof SHAPES = SHAPES,
  time: (program: Program, tile: TileName) => Promise<number> = (program) => fastest(gpu, program),
): AsyncGenerator<void, MeasuredTiles> {
  const most = (pick: (shape: readonly [number, number, number]) => number) => Math.max(...shapes.map(pick));
  const sizes = [most(([m, , k]) => m * k), most(([, n, k]) => n * k), most(([m, n]) => m * n)];
  const operands = await gpu.tensors(
    sizes.map((size, i) => ({ name: `tuning.${"abc"[i]}`, shape: [size], dtype: "f32" as const })),
  );
  const tiles: Record<string, TileName> = {};
  try {
    for (const layout of LAYOUTS) {
      for (const [m, n, k] of shapes) {
        const view = (i: number, shape: [number, number]) => ({ ...operands[i]!, shape });
        const shape = shapeClass(m, n);
        const key = tileKey(layout, shape);
        let best = { tile: CANDIDATES[shape][0]!, milliseconds: Infinity };
        for (const tile of CANDIDATES[shape]) {
          const before = gpu.measuredTiles;
          const program = new Program(gpu, "tuning");
          gpu.measuredTiles = { ...before, [key]: tile };
          try {
            const a = view(0, layout === "TN" ? [k, m] : [m, k]);
            const b = view(1, layout === "NT" ? [n, k] : [k, n]);
            recordMatmul(gpu, program, { layout, a, b, c: view(2, [m, n]), size: () => ({ m, k }) });
          } finally {
            gpu.measuredTiles = before;
          }
          const milliseconds = await time(program, tile).finally(() => program.free());
          if (milliseconds < best.milliseconds * WORTHWHILE) best = { tile, milliseconds };
          yield;
        }
        tiles[key] = best.tile;
      }
    }
  } finally {
    gpu.free(...operands);
  }
  return tiles;
}

/** The shortest of several runs, by the device's own clock where it has one. */
async function fastest(gpu: Gpu, program: Program): Promise<number> {
  const times: number[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const start = performance.now();
    const stamped = gpu.features.has("timestamp-query") ? await program.profile({}) : program.run({});
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
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${file}.part`, JSON.stringify({ adapter: adapterName(gpu), tiles }, null, 2));
  await Deno.rename(`${file}.part`, file);
}

/** Another adapter, driver or kernel has another file. */
async function tilesFile(gpu: Gpu, folder: string): Promise<string> {
  const kernels = JSON.stringify([MATMUL_TILES, CANDIDATES, operandsSource, tiledSource]);
  const hash = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(adapterName(gpu) + kernels));
  return join(folder, `matmul-${new Uint8Array(hash).toHex().slice(0, 16)}.json`);
}

function adapterName({ adapterInfo }: Gpu): string {
  const { vendor, architecture, device, description } = adapterInfo;
  return [vendor, architecture, device, description].join(" / ");
}
