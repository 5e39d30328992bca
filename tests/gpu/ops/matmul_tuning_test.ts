import assert from "node:assert/strict";
import { join } from "node:path";
import { Gpu } from "../../../src/gpu/mod.ts";
import { CANDIDATES, type MeasuredTiles } from "../../../src/gpu/ops/matmul_tiles.ts";
import { measureMatmulTiles, readTiles, writeTiles } from "../../../src/gpu/ops/matmul_tuning.ts";
import { inFolder } from "../../helpers/folder.ts";

const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });

/** Takes all turns. */
async function outcome(turns: AsyncGenerator<void, MeasuredTiles>): Promise<MeasuredTiles> {
  for (;;) {
    const turn = await turns.next();
    if (turn.done) return turn.value;
  }
}

Deno.test("measureMatmulTiles() takes the fastest candidate, and another than the first only where it is clearly faster", async () => {
  const tried: string[] = [];
  const measure = (faster: number) =>
    outcome(measureMatmulTiles(gpu, [[32, 16, 8], [460, 460, 4]], (program, tile) => {
      const [dispatch] = program.dispatches({});
      assert.ok(dispatch!.kernel.includes(`_${tile}`));
      tried.push(tile);
      return Promise.resolve(tile === "64x64 by 8x4" ? faster : 10);
    }));
  const bytes = gpu.memory.bytes;
  const chosen = await measure(8);
  assert.deepEqual(chosen["NT medium"], "64x64 by 8x4");
  assert.deepEqual(new Set(tried), new Set([...CANDIDATES.narrow, ...CANDIDATES.medium]));
  assert.equal((await measure(9.9))["TN medium"], CANDIDATES.medium[0]);
  assert.equal(gpu.memory.bytes, bytes, "the operands are let go of");
  assert.deepEqual(gpu.policy.tiles, {}, "nothing is taken before the end");
});

Deno.test("measureMatmulTiles() holds nothing between two turns", async () => {
  const bytes = gpu.memory.bytes;
  const held: number[] = [];
  const turns = measureMatmulTiles(gpu, [[64, 32, 8]], () => {
    held.push(gpu.memory.bytes - bytes);
    return Promise.resolve(1);
  });
  for (let turn = await turns.next(); !turn.done; turn = await turns.next()) {
    assert.equal(gpu.memory.bytes, bytes);
  }
  assert.ok(held.length > 0 && held.every((each) => each >= (64 * 8 + 8 * 32 + 64 * 32) * 4), held.join());
});

Deno.test("measureMatmulTiles() times real products, and gives back what it took where that fails", async () => {
  const bytes = gpu.memory.bytes;
  const tiles = await outcome(measureMatmulTiles(gpu, [[64, 32, 8]]));
  assert.deepEqual(Object.keys(tiles), ["NT small", "NN small", "TN small"]);
  for (const tile of Object.values(tiles)) assert.ok(CANDIDATES.small.includes(tile), tile);
  const failing = measureMatmulTiles(gpu, [[64, 32, 8]], (program) => {
    program.run({});
    return Promise.reject(new Error("no clock"));
  });
  await assert.rejects(outcome(failing), /no clock/);
  assert.equal(gpu.memory.bytes, bytes);
});

Deno.test("readTiles() gives back what writeTiles() kept, and nothing for a file that is not whole", () =>
  inFolder(async (folder) => {
    assert.equal(await readTiles(gpu, folder), null);
    const tiles: MeasuredTiles = { "NT large": "64x64" };
    await writeTiles(gpu, folder, tiles);
    assert.deepEqual(await readTiles(gpu, folder), tiles);
    const [{ name }] = await Array.fromAsync(Deno.readDir(folder)) as [Deno.DirEntry];
    for (const text of ["{", `{"tiles": {"NT large": "1x1"}}`, `{}`]) {
      await Deno.writeTextFile(join(folder, name), text);
      assert.equal(await readTiles(gpu, folder), null);
    }
  }));
