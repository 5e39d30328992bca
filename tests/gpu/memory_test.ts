import assert from "node:assert/strict";
import { GpuMemoryError, MemoryAccount, withRoom } from "../../src/gpu/mod.ts";

Deno.test("MemoryAccount sums by name and part and keeps the peak", () => {
  const account = new MemoryAccount(1000);
  account.take("weights", 300, "model");
  account.take("weights", 100);
  account.take("scratch", 500, "model");
  assert.deepEqual(account.byName(), { weights: 400, scratch: 500 });
  assert.deepEqual(account.byPart(), { model: 800, other: 100 });
  account.give("scratch", 500, "model");
  account.give("weights", 100);
  assert.deepEqual(account.byName(), { weights: 300 });
  assert.deepEqual(account.byPart(), { model: 300 });
  assert.deepEqual([account.bytes, account.peak], [300, 900]);
});

Deno.test("MemoryAccount refuses what passes the limit, and says how much is in use", () => {
  const account = new MemoryAccount(3 * 2 ** 20);
  account.take("weights", 2 ** 20);
  assert.throws(() => account.take("logits", 2.5 * 2 ** 20), (error) => {
    assert.ok(error instanceof GpuMemoryError);
    assert.equal(error.message, "logits needs 2.5 MiB of GPU memory; 1.0 MiB of 3.0 MiB are in use.");
    return true;
  });
  assert.deepEqual(account.byName(), { weights: 2 ** 20 });
  account.take("logits", 2 * 2 ** 20); // to the last byte
});

Deno.test("withRoom() works once more where there was no room and some was found, and after no other error", async () => {
  const outcome = async (error: Error, found: boolean) => {
    let works = 0;
    const work = () => ++works === 1 ? Promise.reject(error) : Promise.resolve("done");
    return await withRoom(() => found, work).catch((error) => error) + ` ${works}`;
  };
  const full = new GpuMemoryError("full");
  assert.equal(await outcome(full, true), "done 2");
  assert.equal(await outcome(full, false), "GpuMemoryError: full 1");
  assert.equal(await outcome(new Error("other"), true), "Error: other 1");
});
