import assert from "node:assert/strict";
import { join } from "node:path";
import { plan } from "../../src/cli/plan.ts";
import { FakeEngine } from "../helpers/fake_engine.ts";
import { makeRoot } from "../helpers/service.ts";

class LosingEngine extends FakeEngine {
  stops = 0;

  constructor() {
    super();
    this.handlers.memory = () => Promise.reject(new Error("lost"));
  }

  override stop(): Promise<void> {
    this.stops++;
    return super.stop();
  }
}

Deno.test("plan() stops the engine where the device fails", async () => {
  const root = await makeRoot();
  const path = join(root, "job.json");
  await Deno.writeTextFile(path, JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }));
  const engine = new LosingEngine();
  try {
    const environment = new Map([["SIMPO_ROOT", root]]);
    await assert.rejects(plan([path], () => Promise.resolve(engine), environment), /lost/);
    assert.equal(engine.stops, 1);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
