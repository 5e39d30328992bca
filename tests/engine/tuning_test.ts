import assert from "node:assert/strict";
import { useFastestTiles } from "../../src/engine/tuning.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import type { MeasuredTiles } from "../../src/gpu/ops/matmul_tiles.ts";

const TILES: MeasuredTiles = { "NT large": "64x64" };

Deno.test("useFastestTiles() measures once, only while nobody has work, and keeps what it found", async () => {
  const folder = await Deno.makeTempDir();
  const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });
  try {
    let questions = 0;
    let turns = 0;
    const busy = () => ++questions < 4; // work until the fourth look
    const measure = async function* (): AsyncGenerator<void, MeasuredTiles> {
      await Promise.resolve();
      assert.ok(questions >= 4, "measured while there was work");
      for (; turns < 3; turns++) yield;
      return TILES;
    };
    await useFastestTiles(gpu, folder, busy, { idleMs: 1, measure });
    assert.equal(turns, 3);
    assert.deepEqual(gpu.policy.tiles, TILES);

    gpu.policy = { ...gpu.policy, tiles: {} };
    await useFastestTiles(gpu, folder, () => true, {
      measure: () => assert.fail("measured a second time"),
    });
    assert.deepEqual(gpu.policy.tiles, TILES);
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("useFastestTiles() leaves the tiles alone where measuring fails", async () => {
  const folder = await Deno.makeTempDir();
  const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });
  try {
    await useFastestTiles(gpu, folder, () => false, {
      idleMs: 1,
      // deno-lint-ignore require-yield
      measure: async function* () {
        await Promise.reject(new Error("no room"));
        return TILES;
      },
    });
    assert.deepEqual(gpu.policy.tiles, {});
    assert.deepEqual(await Array.fromAsync(Deno.readDir(folder)), []);
  } finally {
    gpu.close();
    await Deno.remove(folder, { recursive: true });
  }
});
