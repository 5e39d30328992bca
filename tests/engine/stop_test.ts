import assert from "node:assert/strict";
import { Lab } from "./_lab.ts";

for (const leaveThread of [false, true]) {
  Deno.test(`an engine's thread ${leaveThread ? "stays, without a device, for a process that ends next" : "ends with it"}`, async () => {
    let terminated = 0;
    let worker!: Worker;
    const spawn = () => {
      worker = new Worker(new URL("../../src/engine/worker.ts", import.meta.url), { type: "module" });
      const terminate = worker.terminate.bind(worker);
      worker.terminate = () => {
        terminated++;
        terminate();
      };
      return worker;
    };
    {
      await using lab = await Lab.open({ spawn, leaveThread });
      await lab.engine.call("device", null);
    }
    assert.equal(terminated, leaveThread ? 0 : 1);
    worker.terminate();
  });
}
