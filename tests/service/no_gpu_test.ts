/** Without a GPU the first sentence that anyone reads names the setting that helps. */
import assert from "node:assert/strict";
import { startEngine } from "../../src/engine/client.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import type { FakeEngine } from "../helpers/fake_engine.ts";
import { startReal } from "../helpers/process.ts";
import { testService } from "../helpers/service.ts";
import { makeRealRoot } from "./_worker.ts";

const gpu = await Gpu.open({ device: "auto" });
gpu.close();
const sentence = /^No GPU answers: set SIMPO_DEVICE=software to run on the software driver/;

Deno.test({
  name: "POST /score answers 503 and names SIMPO_DEVICE=software where only the software driver answers",
  ignore: !gpu.software,
  fn: async () => {
    const engine = startEngine({ device: "auto", allowSoftware: false });
    engine.catch(() => {});
    await using service = await testService({ engine: engine as unknown as Promise<FakeEngine> });
    const { status, body } = await service.post("/score", { model: "model", prompt: "a", candidates: ["b"] });
    assert.deepEqual([status, body.field], [503, "SIMPO_DEVICE"]);
    assert.match(body.detail, sentence);
    const job = await service.post("/train", { model: "model", dataset: { path: "rows.jsonl" } });
    assert.deepEqual([job.status, job.body.status], [202, "queued"]); // it waits for a device
  },
});

Deno.test({
  name:
    "serve and train end with exit code 2 and names SIMPO_DEVICE=software where only the software driver answers",
  ignore: !gpu.software,
  fn: async () => {
    await using root = await makeRealRoot();
    await using process = await startReal(root.path, ["serve"], { SIMPO_DEVICE: "auto" });
    assert.equal(await process.code, 2, process.lines.join("\n"));
    assert.match(process.lines.at(-1)!, sentence);
  },
});
