/** An engine that hangs, seen over HTTP: it is replaced, and neither jobs nor other requests pay for it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readJournal } from "../../src/engine/journal.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "./_worker.ts";

const root = await makeRealRoot();
for (const name of ["endless-loop", "endless-regex"]) await writeTinyModel(join(root.path, "models", name));
Deno.test.afterAll(async () => await root[Symbol.asyncDispose]());

const ITEM = { prompt: "the", candidates: [" hand", " out"] };
const JOB = {
  model: "models/tiny",
  dataset: { rows: plainRows(16) },
  max_steps: 400,
  batch_size: 2,
  save_steps: 10,
  max_length: 64,
};

async function until(worker: Worker, id: string, type: string): Promise<void> {
  for await (const event of worker.events(id, 0)) if (event.type === type) return;
}

Deno.test("/readyz says that the engine hangs, its call gets 503, a cancel is heard and /score goes on", async () => {
  await using worker = await Worker.startFaulty(root.path, 2);
  const { id } = (await worker.post("/train", JOB)).body;
  await until(worker, id, "checkpoint");
  const hung = fetch(`${worker.url}/score`, {
    method: "POST",
    body: JSON.stringify({ model: "models/endless-loop", ...ITEM }),
    headers: { "content-type": "application/json" },
  });
  const waits = worker.post("/score", { model: "models/tiny", ...ITEM });
  let ready = await worker.get("/readyz");
  assert.equal(ready.status, 200);
  assert.equal((await worker.post(`/train/${id}/cancel`, {})).status, 202);
  while (ready.status === 200) {
    ready = await worker.get("/readyz");
    assert.equal((await worker.get("/livez")).status, 200);
  }
  assert.equal(ready.status, 503);
  assert.match(
    ready.body.detail,
    /^The engine's thread has not answered for \d\.\d s\. The engine is starting again\.$/,
  );
  const answer = await hung;
  assert.deepEqual([answer.status, answer.headers.get("retry-after")], [503, "10"]);
  assert.match((await answer.json()).detail, /send the request again in 10 s\.$/);
  assert.equal((await waits).status, 200);
  assert.equal((await worker.get("/readyz")).status, 200);
  assert.equal((await worker.get(`/train/${id}`)).body.status, "cancelled");
  assert.equal(await worker.end("SIGTERM"), 0, worker.log());
});

Deno.test("a process that is killed in a score's step charges its weights, never the job between whose steps it ran", async () => {
  const request = { model: "models/endless-regex", ...ITEM };
  let id = "";
  for (let life = 0; life < 3; life++) {
    await using worker = await Worker.startFaulty(root.path, 600);
    // its journal is its own from then on
    await eventually("ready", async () => (await worker.get("/readyz")).status === 200);
    if (id === "") id = (await worker.post("/train", JOB)).body.id;
    await eventually("job", () => readJournal(join(root.path, "state"))?.job === id);
    const hung = worker.post("/score", request).catch(() => null);
    await eventually("work", () => readJournal(join(root.path, "state"))?.work != null);
    assert.equal(await worker.end("SIGKILL"), 137);
    assert.equal(await hung, null);
  }
  await using worker = await Worker.startFaulty(root.path, 600);
  const refused = await worker.post("/score", request);
  assert.equal(refused.status, 422);
  assert.match(refused.body.detail, /^model is not used: the engine broke or hung 3 times in a row/);
  assert.equal((await worker.post("/score", { model: "models/tiny", ...ITEM })).status, 200);
  await until(worker, id, "checkpoint");
  const { status, error } = (await worker.get(`/train/${id}`)).body;
  assert.deepEqual([status, error], ["running", null]);
});

async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const start = performance.now(); !await holds();) {
    assert.ok(performance.now() - start < 120_000, `Never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
