import assert from "node:assert/strict";
import { join } from "node:path";
import { score } from "../../src/cli/score.ts";
import { newJobId } from "../../src/jobs/folder.ts";
import { JobRunner } from "../../src/jobs/runner.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { FakeEngine } from "../helpers/fake_engine.ts";
import { makeRoot } from "../helpers/service.ts";

Deno.test("score() takes the quantization that a job had, beside a service that has the store open", async () => {
  const root = await makeRoot();
  const [state, input, output] = ["state", "in.jsonl", "out.jsonl"].map((name) => join(root, name));
  await Deno.mkdir(state!);
  await Deno.writeTextFile(input!, JSON.stringify({ prompt: "a", candidates: ["b"] }));
  const engine = new FakeEngine();
  try {
    using store = new JobStore(join(state!, "jobs.sqlite"));
    const runner = new JobRunner({ store, root, state: state!, engine: Promise.resolve(engine) });
    const given = { model: "model", dataset: { path: "rows.jsonl" } };
    const ids: string[] = [];
    for (const quantization of ["int8", null]) {
      const { job } = store.create(newJobId(), parseJobSpec({ ...given, quantization }));
      ids.push(job.id);
      assert.equal((await runner.runToEnd(job.id)).status, "succeeded");
    }
    const environment = new Map([["SIMPO_ROOT", root], ["SIMPO_STATE", state!]]);
    for (const adapter of [...ids, "adapter"]) {
      const args = ["--model", "model", "--adapter", adapter, input!, output!];
      assert.equal(await score(args, () => Promise.resolve(engine), environment), 0);
    }
    assert.deepEqual(engine.scored.map(({ quantization }) => quantization), ["int8", null, null]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
