import type { Gpu } from "../gpu/mod.ts";
import type { MeasuredTiles } from "../gpu/ops/matmul_tiles.ts";
import { measureMatmulTiles, readTiles, writeTiles } from "../gpu/ops/matmul_tuning.ts";

/** Time without work after which the device may be tried out. */
const IDLE_MS = 5000;

/**
 * Takes the matrix tiles that were measured on this adapter. Where none were they are measured once nobody has work for
 * the device, a candidate at a time, and kept. What goes wrong costs nothing but speed: a device in trouble tells those
 * who need it.
 *
 * @param busy whether anybody has work
 * @returns when tiles are in use, or have been given up
 */
export async function useFastestTiles(
  gpu: Gpu,
  folder: string,
  busy: () => boolean,
  { idleMs = IDLE_MS, measure = measureMatmulTiles } = {},
): Promise<void> {
  if (gpu.policy.matmul !== "tiled") return; // the software driver's kernels have no tiles
  try {
    const kept = await readTiles(gpu, folder);
    const use = (tiles: MeasuredTiles) => gpu.policy = { ...gpu.policy, tiles };
    if (kept) return void use(kept);
    const idle = async () => {
      do await new Promise((resolve) => setTimeout(resolve, idleMs)); while (busy());
    };
    await idle();
    const turns = measure(gpu);
    for (;;) {
      if (busy()) await idle();
      const turn = await turns.next();
      if (!turn.done) continue;
      use(turn.value);
      return await writeTiles(gpu, folder, turn.value);
    }
  } catch {
    // tiles stay as they are
  }
}
