import assert from "node:assert/strict";
import { EnginePool } from "../../src/engine/pool.ts";
import type { ScoreRequest, TrainRequest } from "../../src/engine/protocol.ts";
import { settingsOf } from "../helpers/settings.ts";
import { FakeEngine, type FakeOptions } from "../helpers/fake_engine.ts";
import { gate } from "../helpers/service.ts";

function poolOf(count: number, options?: FakeOptions) {
  const engines = Array.from({ length: count }, () => new FakeEngine(options));
  return { engines, pool: new EnginePool(engines) };
}

const asked = (model: string): ScoreRequest => ({
  model,
  adapter: null,
  quantization: null,
  items: [{ prompt: "a", candidates: ["b"] }],
  beta: 2,
  token_logprobs: false,
});

const job = (id: string, directory: string): TrainRequest => ({
  id,
  model: "model",
  dataset: { comparisons: [] },
  eval_dataset: null,
  settings: settingsOf(),
  init_adapter: null,
  directory,
});

Deno.test("EnginePool gives every job a slot of its own, and refuses one more than there are", async () => {
  const directory = await Deno.makeTempDir();
  try {
    const step = gate();
    const { engines, pool } = poolOf(3, { beforeStep: () => step.opened });
    assert.equal(pool.trainingSlots, 3);
    const jobs = ["a", "b", "c"].map((id) => pool.call("train", job(id, `${directory}/${id}`)));
    assert.deepEqual(engines.map(({ trained }) => trained.map(({ id }) => id)), [["a"], ["b"], ["c"]]);
    await assert.rejects(pool.call("train", job("d", directory)), /All 3 training slots are taken/);
    step.open();
    assert.deepEqual((await Promise.all(jobs)).map(({ outcome }) => outcome), Array(3).fill("succeeded"));
    assert.equal((await pool.call("train", job("d", `${directory}/d`))).outcome, "succeeded");
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("EnginePool scores where the model was used last, unless that is busy and another idle", async () => {
  const item = gate();
  let held = false;
  const { engines, pool } = poolOf(3, { beforeItem: () => held ? item.opened : undefined });
  const scored = () => engines.map(({ scored }) => scored.map(({ model }) => model).join(""));
  await pool.call("score", asked("a"));
  await pool.call("score", asked("a"));
  assert.deepEqual(scored(), ["aa", "", ""]);
  held = true;
  const calls = ["a", "b", "a", "c", "b"].map((model) => pool.call("score", asked(model)));
  // a is at home; b finds the second idle; a's home is busy and the third idle; then all are busy: the idlest, then b's home
  assert.deepEqual(scored(), ["aaac", "bb", "a"]);
  item.open();
  await Promise.all(calls);
  for (const model of ["a", "b"]) await pool.call("score", asked(model));
  assert.deepEqual(scored(), ["aaac", "bbb", "aa"]); // home, though the first is as idle
});

Deno.test("EnginePool answers for the device by its first member, and stops them all", async () => {
  const { engines, pool } = poolOf(2);
  engines[1]!.handlers.device = () => Promise.reject(new Error("not asked"));
  assert.equal((await pool.call("device", null)).vendor, "fake");
  let stops = 0;
  for (const engine of engines) engine.stop = () => Promise.resolve(void stops++);
  await pool.stop();
  assert.equal(stops, 2);
});
