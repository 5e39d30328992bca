import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { InputError } from "../../src/errors.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { summarizeLeftOut } from "../../src/preference/left_out.ts";
import { fakePlan } from "../helpers/fake_engine.ts";

const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });
const types = (store: JobStore, id: string) => store.events(id, 0).map(({ type }) => type);

Deno.test("JobStore.create() keeps the request's rows apart from the job", () => {
  using store = new JobStore(":memory:");
  const comparisons = [{ row: 1, prompt: "a", responses: ["b", "c"] }];
  const { job } = store.create("job-1", { ...spec, dataset: { comparisons } });
  assert.deepEqual(job.dataset, { rows: 1 });
  assert.equal(job.eval_dataset, null);
  assert.deepEqual(job.settings, spec.settings);
  assert.deepEqual(store.datasets("job-1"), { dataset: { comparisons }, eval_dataset: null });
  assert.equal(job.status, "queued");
});

Deno.test("JobStore.create() gives a repeated request its job and refuses a key with another request", () => {
  using store = new JobStore(":memory:");
  assert.equal(store.create("job-1", spec, { key: "k", hash: "h" }).created, true);
  const again = store.create("job-2", spec, { key: "k", hash: "h" });
  assert.deepEqual([again.created, again.job.id], [false, "job-1"]);
  assert.throws(
    () => store.create("job-3", spec, { key: "k", hash: "other" }),
    (error) =>
      error instanceof InputError && /Idempotency-Key k came with another request/.test(error.message),
  );
  assert.equal(store.list(10).length, 1);
});

Deno.test("JobStore.list() gives pages, newest first", () => {
  using store = new JobStore(":memory:");
  for (let n = 1; n <= 5; n++) store.create(`job-${n}`, spec);
  assert.deepEqual(store.list(2).map(({ id }) => id), ["job-5", "job-4"]);
  assert.deepEqual(store.list(2, store.numberOf("job-4")).map(({ id }) => id), ["job-3", "job-2"]);
  assert.deepEqual(store.list(2, store.numberOf("job-2")).map(({ id }) => id), ["job-1"]);
});

Deno.test("JobStore.record() drops metrics, checkpoints and warnings that a resumed job sends again", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  const life = (resumed_from: number) => {
    store.record("job-1", { type: "status", status: "running", total_steps: 2, resumed_from });
    store.record("job-1", { type: "warning", message: "odd" });
    store.record("job-1", { type: "metrics", step: 1, metrics: { loss: 0.5 } });
    // An evaluation after the same step is another event.
    store.record("job-1", { type: "metrics", step: 1, metrics: { eval_loss: 0.7 } });
    store.record("job-1", { type: "checkpoint", step: 1 });
  };
  life(0);
  store.requeue("job-1");
  life(1);
  const events = store.events("job-1", 0);
  assert.deepEqual(
    events.map(({ type }) => type),
    ["status", "status", "warning", "metrics", "metrics", "checkpoint", "status", "status"],
  );
  assert.deepEqual(events.map(({ id }) => id), [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual(events[3]?.data, { step: 1, loss: 0.5 });
  assert.deepEqual(store.get("job-1")?.metrics, { loss: 0.5, eval_loss: 0.7, step: 1 });
});

Deno.test("JobStore.record() keeps the rows left out of each split once", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  const left_out = (split: "train" | "eval", row: number) =>
    store.record("job-1", { type: "left_out", split, ...summarizeLeftOut([{ row, reason: "empty" }]) });
  left_out("train", 1);
  left_out("eval", 2);
  left_out("train", 3);
  assert.deepEqual(store.get("job-1")?.rows_left_out, {
    count: 2,
    reasons: [{ split: "train", reason: "empty", count: 1 }, { split: "eval", reason: "empty", count: 1 }],
    first: [{ split: "train", row: 3, reason: "empty" }, { split: "eval", row: 2, reason: "empty" }],
  });
});

Deno.test("JobStore.record() takes unknown rates as null", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  store.record("job-1", {
    type: "progress",
    step: 1,
    total_steps: 9,
    tokens_per_second: NaN,
    seconds_remaining: Infinity,
  });
  const job = store.get("job-1");
  assert.deepEqual([
    job?.progress.step,
    job?.progress.total_steps,
    job?.progress.tokens_per_second,
    job?.seconds_remaining,
  ], [
    1,
    9,
    null,
    null,
  ]);
});

Deno.test("JobStore.finish() ends with done and its error", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  store.finish("job-1", "failed", { message: "No.", field: "model" });
  assert.deepEqual(store.events("job-1", 1), [
    { id: 2, type: "done", data: { status: "failed", step: 0, error: { message: "No.", field: "model" } } },
  ]);
  const job = store.get("job-1");
  assert.deepEqual([job?.status, job?.error?.message, job?.seconds_remaining], ["failed", "No.", null]);
  assert.ok(job?.finished_at);
});

Deno.test("JobStore.subscribe() tells of a job's own changes until it is ended", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  store.create("job-2", spec);
  let calls = 0;
  const end = store.subscribe("job-1", () => calls++);
  store.record("job-1", { type: "checkpoint", step: 1 });
  store.record("job-2", { type: "checkpoint", step: 1 });
  end();
  store.record("job-1", { type: "checkpoint", step: 2 });
  assert.equal(calls, 1);
});

Deno.test("JobStore.recover() queues what was running at its old place and cancels what was to be", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const path = join(folder, "jobs.sqlite");
    {
      using store = new JobStore(path);
      for (const id of ["job-1", "job-2", "job-3"]) store.create(id, spec);
      store.start("job-1");
      store.start("job-2");
      store.requestCancel("job-2");
    }
    using store = new JobStore(path);
    store.recover();
    assert.deepEqual(store.list(9).map(({ status }) => status), ["queued", "cancelled", "queued"]);
    assert.equal(store.nextQueued()?.id, "job-1");
    assert.deepEqual(types(store, "job-2"), ["status", "done"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("JobStore.recover() and crashed() count no crash that is not charged to the job, and forget none that is", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  const end = (crash: () => void) => {
    store.start("job-1");
    crash();
    return store.get("job-1")!.status;
  };
  const lost = (charged: boolean) => () => store.crashed("job-1", { message: "lost" }, charged);
  for (let i = 0; i < 5; i++) assert.equal(end(() => store.recover(false)), "queued");
  assert.deepEqual([end(lost(true)), end(() => store.recover()), end(lost(false))], [
    "queued",
    "queued",
    "queued",
  ]);
  assert.equal(end(lost(true)), "failed");
});

Deno.test("JobStore.recover() fails a job under which the process ends three times in a row without a new checkpoint", () => {
  using store = new JobStore(":memory:");
  store.create("job-1", spec);
  const life = (...checkpoints: number[]) => {
    store.start("job-1");
    for (const step of checkpoints) store.record("job-1", { type: "checkpoint", step });
  };
  const status = () => store.get("job-1")!.status;
  const crash = (...checkpoints: number[]) => {
    life(...checkpoints);
    store.recover();
    return status();
  };
  assert.deepEqual([crash(), crash(), crash(5), crash()], ["queued", "queued", "queued", "queued"]);
  // the same checkpoint again is none that is new, and a stop in between is no crash
  life(5);
  store.requeue("job-1");
  assert.deepEqual([crash(), crash(5), crash()], ["queued", "queued", "failed"]);
  assert.match(
    store.get("job-1")!.error!.message,
    /^The worker ended 3 times in a row while it ran this job/,
  );
  assert.equal(store.events("job-1", 0).at(-1)?.data["status"], "failed");
  store.retry("job-1");
  assert.deepEqual([crash(), crash(), crash()], ["queued", "queued", "failed"]);
});

Deno.test("JobStore() takes the jobs of an earlier version over, and refuses those of a newer", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "jobs.sqlite");
  const change = (sql: string) => {
    const db = new DatabaseSync(path);
    db.exec(sql);
    db.close();
  };
  try {
    {
      using store = new JobStore(path);
      store.create("job-1", spec);
      store.start("job-1");
      store.record("job-1", { type: "warning", message: "odd" });
      store.create(
        "job-2",
        parseJobSpec({ model: "model", dataset: { path: "p" }, method: { type: "sft" } }),
      );
    }
    const left = Array.from({ length: 30 }, (_, i) => ({ split: "eval", row: i + 1, reason: "empty" }));
    const error = { message: "No.", field: "dataset", value: Array(9999).fill("row") };
    const datasets = JSON.stringify({
      dataset: { rows: [{ prompt: "a", completion: "b" }, { text: "c" }] },
      eval_dataset: null,
    });
    change(
      `ALTER TABLE jobs DROP COLUMN plan; ALTER TABLE jobs DROP COLUMN crashes; ALTER TABLE jobs DROP COLUMN warnings;
      ALTER TABLE jobs DROP COLUMN rows_read; ALTER TABLE jobs DROP COLUMN waiting_for; ALTER TABLE jobs DROP COLUMN bytes; ALTER TABLE jobs DROP COLUMN tidied; DROP TABLE deleted_jobs;
      ALTER TABLE jobs ADD COLUMN datasets TEXT NOT NULL DEFAULT ''; UPDATE jobs SET datasets =
        (SELECT data FROM datasets WHERE job = jobs.id); DROP TABLE datasets;
      PRAGMA user_version = 1;
      UPDATE jobs SET spec = json_remove(spec, '$.settings.quantization', '$.settings.lora.modules_to_save',
        '$.settings.lora.ensure_weight_tying', '$.settings.keep_checkpoints');
      UPDATE jobs SET left_out = '${JSON.stringify(left)}', error = '${
        JSON.stringify(error)
      }' WHERE id = 'job-2';
      UPDATE jobs SET datasets = '${datasets}' WHERE id = 'job-2';`,
    );
    {
      using store = new JobStore(path);
      store.recover();
      assert.equal(store.nextQueued()?.id, "job-1");
      assert.deepEqual(store.get("job-1")!.settings, spec.settings);
      assert.deepEqual(store.datasets("job-1").dataset, spec.dataset);
      assert.deepEqual([store.get("job-1")!.warnings, store.get("job-1")!.warning_count], [["odd"], 1]);
      const { rows_left_out, error } = store.get("job-2")!;
      assert.deepEqual(rows_left_out.reasons, [{ split: "eval", reason: "empty", count: 30 }]);
      assert.deepEqual([rows_left_out.count, rows_left_out.first.length], [30, 20]);
      assert.match(error!.value as string, /^\["row","row",.*… \(59995 characters\)$/);
      const { dataset } = store.datasets("job-2");
      assert.deepEqual("comparisons" in dataset && dataset.comparisons, [
        { row: 1, prompt: "a", responses: ["b"] },
        { row: 2, prompt: "", responses: ["c"] },
      ]);
    }
    change("PRAGMA user_version = 99;");
    assert.throws(() => new JobStore(path), /jobs of a newer version \(99\)/);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("JobStore() refuses a state folder that another process uses, until that process is killed", async () => {
  const folder = await Deno.makeTempDir();
  const path = join(folder, "jobs.sqlite");
  const other = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      `import { JobStore } from ${JSON.stringify(new URL("../../src/jobs/store.ts", import.meta.url).href)};
       globalThis.store = new JobStore(${
        JSON.stringify(path)
      }); console.log("open"); setInterval(() => {}, 1000);`,
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  try {
    const reader = other.stdout.getReader();
    await reader.read();
    await reader.cancel();
    assert.throws(
      () => new JobStore(path),
      (error) => error instanceof InputError && /SIMPO_STATE is in use by another worker/.test(error.message),
    );
    other.kill("SIGKILL");
    await other.status;
    using store = new JobStore(path);
    assert.deepEqual(store.list(1), []);
  } finally {
    try {
      other.kill("SIGKILL");
    } catch {
      // It has been killed above.
    }
    await other.status;
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("JobStore shows the plan of a job that has one", () => {
  using store = new JobStore(":memory:");
  assert.equal(store.create("job-1", spec).job.plan, null);
  store.record("job-1", { type: "plan", plan: fakePlan });
  assert.deepEqual(store.get("job-1")!.plan, fakePlan);
});
