/** Weights that are still being read when the work they are for ends: by a signal, a cancel, a client that goes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { JobStore } from "../../src/jobs/store.ts";
import { startReal } from "../helpers/process.ts";
import { writeSparseModel } from "../helpers/sparse_model.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { type JobEvent, makeRealRoot, Worker } from "./_worker.ts";

const root = await makeRealRoot();
await writeSparseModel(join(root.path, "models", "large"), 2e9);
const JOB = { model: "models/large", dataset: { rows: plainRows(2) }, max_steps: 1, max_length: 64 };
const ITEM = { prompt: "the", candidates: [" hand", " out"] };
await Deno.writeTextFile(join(root.path, "job.json"), JSON.stringify(JOB));
await Deno.writeTextFile(join(root.path, "in.jsonl"), JSON.stringify(ITEM));
Deno.test.afterAll(async () => await root[Symbol.asyncDispose]());

/** Follows a job's events to the first of a type. */
async function until(worker: Worker, id: string, type: string): Promise<JobEvent> {
  for await (const event of worker.events(id, 0)) if (event.type === type) return event;
  throw new Error(`No event ${type}: ${worker.log()}`);
}

/** The messages of a worker's log. */
function messages(worker: Worker): string[] {
  return worker.log().split("\n").filter((line) => line.startsWith("{")).map((line) =>
    JSON.parse(line).message
  );
}

Deno.test("a job ends within its loading by SIGTERM, goes on at the next start, and ends by a cancel", async () => {
  let id: string;
  {
    await using worker = await Worker.start(root.path);
    id = (await worker.post("/train", JOB)).body.id;
    const { data } = await until(worker, id, "loading");
    assert.ok(data.bytes < data.total_bytes);
    const { status, loading } = (await worker.get(`/train/${id}`)).body;
    assert.deepEqual([status, loading.total_bytes], ["running", data.total_bytes]);
    assert.equal(await worker.end("SIGTERM"), 0, worker.log());
    assert.ok(messages(worker).some((line) => /^Loading \d.*models.large\.$/.test(line)), worker.log());
    assert.ok(!messages(worker).some((line) => /^Loaded|did not end in time/.test(line)), worker.log());
  }
  await using worker = await Worker.start(root.path);
  await until(worker, id, "loading");
  assert.equal((await worker.post(`/train/${id}/cancel`, {})).status, 202);
  assert.deepEqual((await until(worker, id, "done")).data, { status: "cancelled", step: 0 });
  assert.ok(!messages(worker).some((line) => /^Loaded/.test(line)), worker.log());
  const { body } = await worker.get(`/train/${id}`);
  assert.deepEqual([body.loading, body.error], [null, null]);
  assert.deepEqual(
    (await Array.fromAsync(worker.events(id, 0))).map(({ data }) => data.status),
    ["queued", "queued", "cancelled"],
  );
});

Deno.test("a client that goes ends the loading of its model, and the worker serves the next and stops", async () => {
  await using worker = await Worker.start(root.path);
  const leaving = new AbortController();
  const large = fetch(`${worker.url}/score`, {
    method: "POST",
    body: JSON.stringify({ model: "models/large", ...ITEM }),
    headers: { "content-type": "application/json" },
    signal: leaving.signal,
  }).catch((error) => error.name);
  const logged = async (pattern: RegExp) => {
    while (!messages(worker).some((line) => pattern.test(line))) {
      await new Promise((done) => setTimeout(done, 5));
    }
  };
  await logged(/^Loading .*models.large/);
  assert.equal((await worker.get("/readyz")).status, 200);
  leaving.abort();
  assert.equal(await large, "AbortError");
  await logged(/^POST \/score 499/);
  assert.equal((await worker.post("/score", { model: "models/tiny", ...ITEM })).status, 200);
  assert.ok(!messages(worker).some((line) => /^Loaded.*models.large/.test(line)), worker.log());
  const cut = worker.post("/score", { model: "models/large", ...ITEM }).catch(() => null);
  await logged(/^Loaded .*models.tiny/);
  while (messages(worker).filter((line) => /^Loading .*models.large/.test(line)).length < 2) {
    await new Promise((done) => setTimeout(done, 5));
  }
  assert.equal(await worker.end("SIGTERM"), 0, worker.log());
  assert.ok([503, undefined].includes((await cut)?.status), "no answer as if it were scored");
  assert.ok(
    !messages(worker).some((line) => /^Loaded.*models.large|did not end in time/.test(line)),
    worker.log(),
  );
});

Deno.test("main.ts train and score end within their loading by SIGINT", async () => {
  const state = { SIMPO_STATE: join(root.path, "command-line") };
  {
    await using train = await startReal(root.path, ["train", join(root.path, "job.json")], state);
    await train.line(/^Loading 2\.\d+ GB of weights\.$/);
    train.child.kill("SIGINT");
    assert.equal(await train.code, 130, train.lines.join("\n"));
    await train.line(/^Stopped; the same command goes on with job/);
    assert.ok(!train.lines.some((line) => /^Loaded/.test(line)));
    using store = new JobStore(join(state.SIMPO_STATE, "jobs.sqlite"));
    const [job] = store.list(2);
    assert.deepEqual([job!.status, job!.progress.step, job!.error], ["queued", 0, null]);
  }
  const args = ["--model", "models/large", join(root.path, "in.jsonl"), join(root.path, "out.jsonl")];
  await using score = await startReal(root.path, ["score", ...args], state);
  await score.line(/^Loading 2\.\d+ GB of weights\.$/);
  score.child.kill("SIGINT");
  assert.equal(await score.code, 130, score.lines.join("\n"));
  assert.ok(!score.lines.some((line) => /^Loaded/.test(line)));
  assert.equal(await Deno.readTextFile(join(root.path, "out.jsonl")), "");
});
