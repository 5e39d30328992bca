/** Jobs whose files or rows cannot be written for a while. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createApp } from "../../routes/app.ts";
import type { Job } from "../../src/api/job.ts";
import type { ExportMerged } from "../../routes/service_context.ts";
import { InputError } from "../../src/errors.ts";
import { jobFolder, newJobId } from "../../src/jobs/folder.ts";
import { StorageError } from "../../src/jobs/storage.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { smallDisk } from "../helpers/small_disk.ts";
import { gate, makeRoot, type TestService, testService } from "../helpers/service.ts";

const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });
const job = { model: "model", dataset: { path: "rows.jsonl" } };

function put({ service: { store, runner } }: TestService): string {
  const { job } = store.create(newJobId(), spec);
  runner.wake();
  return job.id;
}

const statuses = ({ service: { store } }: TestService, id: string) =>
  store.events(id, 0).filter(({ type }) => type === "status").map(({ data }) => data);

const metrics = ({ service: { store } }: TestService, id: string) =>
  store.events(id, 0).filter(({ type }) => type === "metrics").map(({ data }) => data);

const faults = [
  "No space left on device (os error 28)",
  "Disk quota exceeded (os error 122)",
  "File too large (os error 27)",
  "Read-only file system (os error 30)",
  "Too many open files (os error 24)",
  "Input/output error (os error 5)",
];
for (const fault of faults) {
  Deno.test({
    name: `JobRunner has a job wait whose files cannot be written: ${fault}`,
    ignore: Deno.build.os !== "linux", // the numbers are its own
    fn: async () => {
      let failures = 0;
      let partial = "";
      const blocked = gate();
      await using service = await testService({
        beforeStep: async (_, step) => {
          if (step === 2) await Deno.mkdir(partial); // fails the job where an earlier one is left
          if (step === 2 && failures++ < 2) throw new Error(`${fault}: writefile '/state/jobs/x'`);
          if (step !== 2) return;
          await Deno.remove(partial);
          await blocked.opened;
        },
      });
      const id = put(service);
      partial = join(jobFolder(service.service.config.state, id), "checkpoints", ".step-000002.partial");
      await service.until(id, "waiting_for_space");
      const why = `The jobs' files cannot be read or written: ${fault.split(" (")[0]}.`;
      assert.equal(service.service.store.get(id)!.waiting_for, why);
      assert.equal((await service.post(`/train/${id}/resume`, "")).status, 409);
      assert.equal(
        (await service.app.request(`/train/${id}`, { method: "DELETE" })).status,
        409,
      );
      while (failures < 3) await new Promise((resolve) => setTimeout(resolve, 1));
      assert.equal(service.service.store.get(id)!.waiting_for, null);
      blocked.open();
      await service.until(id, "succeeded");
      const other = put(service);
      await service.until(other, "succeeded");
      assert.deepEqual(metrics(service, id), metrics(service, other));
      const wait = { status: "waiting_for_space", waiting_for: why };
      assert.deepEqual(statuses(service, id).filter(({ status }) => status === wait.status), [wait, wait]);
      assert.equal(service.service.store.get(id)!.error, null);
    },
  });
}

Deno.test("JobRunner has each of two jobs wait whose start, steps or end cannot be written, and tells all once", async () => {
  await using service = await testService({ trainingSlots: 2 });
  const { store } = service.service;
  let [starts, records, ends] = [0, 0, 0];
  const full = () => {
    throw new StorageError("database or disk is full", true);
  };
  const { start, record, finish } = store;
  store.start = (id) => ++starts === 1 ? full() : start.call(store, id);
  store.record = (id, event) =>
    [3, 7, 20, 21, 40].includes(++records) ? full() : record.call(store, id, event);
  store.finish = (...args) => ++ends === 1 ? full() : finish.apply(store, args);
  const ids = [put(service), put(service)];
  await service.until(ids[0]!, "succeeded");
  await service.until(ids[1]!, "succeeded");
  assert.ok(ends > 2 && records > 10 && starts > 3, `${[starts, records, ends]}`);
  for (const id of ids) {
    assert.deepEqual(metrics(service, id).map(({ step }) => step), [1, 2, 3, 3]);
    const checkpoints = store.events(id, 0).filter(({ type }) => type === "checkpoint");
    assert.deepEqual(checkpoints.map(({ data }) => data["step"]), [1, 2, 3]);
    assert.equal(store.get(id)!.rows_left_out.count, 1);
    assert.ok(store.get(id)!.plan);
  }
});

Deno.test("JobRunner fails a job for an error that the disk has no part in", async () => {
  let failing = true;
  await using service = await testService({
    beforeStep: () => {
      if (failing) throw new Error("shader 28 is wrong");
    },
  });
  const id = put(service);
  await service.until(id, "failed");
  failing = false;
  await service.until(put(service), "succeeded");
});

Deno.test("JobRunner has a job wait whose download finds no room", async () => {
  let full = true;
  await using service = await testService({
    beforeStep: () => {
      if (full) {
        throw new InputError("There is no room in SIMPO_CACHE.", { path: ["model"], status: 507 });
      }
    },
  });
  const id = put(service);
  await service.until(id, "waiting_for_space");
  assert.equal(service.service.store.get(id)!.waiting_for, "There is no room in SIMPO_CACHE.");
  full = false;
  await service.until(id, "succeeded");
});

for (const total_steps of [1e16, 9.3e18, 1e308, Infinity, NaN]) {
  Deno.test(`JobRunner serves on when a job tells of ${total_steps} steps`, async () => {
    await using service = await testService();
    service.engine.handlers.train = async (_, { onItem }) => {
      await new Promise((resolve) => setTimeout(resolve, 0)); // as a message from a thread comes: nobody catches it
      onItem?.({ type: "status", status: "running", total_steps, resumed_from: 0 });
      onItem?.({ type: "progress", step: 1, total_steps, tokens_per_second: 1, seconds_remaining: 1e308 });
      return { outcome: "succeeded", step: 1 };
    };
    await Deno.mkdir(join(service.root, "state", "jobs"), { recursive: true });
    const id = put(service);
    await service.until(id, "succeeded", "failed");
    assert.equal((await service.get(`/train/${id}`)).status, 200);
    assert.equal((await service.get("/train")).body.jobs.length, 1);
  });
}

Deno.test("JobRunner has a job wait whose state folder is gone, and refuses others", async () => {
  const step = gate();
  await using service = await testService({
    beforeStep: async (_, n) => {
      if (n !== 2) return;
      await step.opened;
      throw new Error("No such file or directory (os error 2)");
    },
  });
  const { state } = service.service.config;
  const id = put(service);
  while (service.service.store.get(id)!.progress.step !== 1) await new Promise((r) => setTimeout(r, 1));
  await Deno.rename(state, `${state}-moved`);
  step.open();
  await service.until(id, "waiting_for_space");
  assert.match(
    service.service.store.get(id)!.waiting_for!,
    /cannot be read or written: its jobs.sqlite has gone; start the worker again\./,
  );
});

const losses: [name: string, lose: (state: string) => Promise<void>, detail: RegExp][] = [
  ["deleted", (state) => Deno.remove(state, { recursive: true }), /jobs\.sqlite has gone/],
  ["moved", (state) => Deno.rename(state, `${state}-moved`), /jobs\.sqlite has gone/],
  ["emptied", (state) => Deno.remove(join(state, "jobs.sqlite")), /jobs\.sqlite has gone/],
  [
    "replaced by a copy",
    async (state) => {
      await Deno.copyFile(join(state, "jobs.sqlite"), join(state, "copy"));
      await Deno.rename(join(state, "copy"), join(state, "jobs.sqlite"));
    },
    /jobs\.sqlite is another one than was opened/,
  ],
];
for (const [name, lose, detail] of losses) {
  Deno.test(`/readyz, POST /train and resume say that the state folder was ${name}`, async () => {
    await using service = await testService();
    assert.equal((await service.get("/readyz")).status, 200);
    service.engine.failing.set("model", new Error("test"));
    const failed = put(service);
    await service.until(failed, "failed");
    await lose(service.service.config.state);
    const answers = [
      await service.get("/readyz"),
      await service.post("/train", job),
      await service.post(`/train/${failed}/resume`, ""),
    ];
    for (const { status, body } of answers) {
      assert.equal(status, 503);
      assert.equal(body.field, "SIMPO_STATE");
      assert.match(body.detail, detail);
      assert.ok(!body.detail.includes(service.root), body.detail);
    }
    assert.deepEqual((await service.get("/train")).body.jobs.map(({ status }: Job) => status), ["failed"]);
    assert.equal(
      (await service.post("/score", { model: "model", prompt: "a", candidates: ["b"] })).status,
      200,
    );
  });
}

Deno.test("POST /train is refused past the quota until a job is deleted", async () => {
  await using service = await testService({ limits: { quotaBytes: 3 * 2 ** 20 } });
  const { body: first } = await service.post("/train", job);
  await service.until(first.id, "succeeded");
  const { store } = service.service;
  // its folder is measured after its end
  while (store.untidied().length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  store.recordBytes(first.id, 5 * 2 ** 20);
  const keyed = { "idempotency-key": "k" };
  const refused = await service.post("/train", job, keyed);
  assert.equal(refused.status, 507);
  assert.match(
    refused.body.detail,
    /^The jobs take 5 MiB and may take 3 \(SIMPO_QUOTA\): delete some/,
  );
  assert.equal(store.list(9).length, 1);
  assert.equal((await service.app.request(`/train/${first.id}`, { method: "DELETE" })).status, 204);
  assert.equal((await service.post("/train", job, keyed)).status, 202);
  while (store.untidied().length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  store.recordBytes(store.list(1)[0]!.id, 5 * 2 ** 20);
  assert.equal((await service.post("/train", job, keyed)).status, 202); // the job that it was
});

Deno.test("a service on a full disk scores, refuses jobs with 507, lets jobs be deleted, and takes them when there is room", async (t) => {
  await using disk = await smallDisk(1 << 20);
  await t.step({
    name: "as it is filled, read-only and free again",
    ignore: disk === null,
    fn: async () => {
      const root = join(disk!.path, "root");
      const made = await makeRoot();
      await new Deno.Command("cp", { args: ["-r", made, root] }).output();
      await Deno.remove(made, { recursive: true });
      await using service = await testService({ root });
      const [first, second] = [put(service), put(service)];
      await service.until(second, "succeeded");
      await Deno.writeFile(join(root, "state", "reserve"), new Uint8Array(100_000));
      await disk!.setReadOnly(true);
      for (const { status, body } of [await service.get("/readyz"), await service.post("/train", job)]) {
        assert.equal(status, 503);
        assert.equal(body.detail, "The jobs' files cannot be read or written: Read-only file system.");
      }
      await disk!.setReadOnly(false);
      assert.equal((await service.get("/readyz")).status, 200);
      await disk!.fill(0);
      const score = { model: "model", prompt: "a", candidates: ["b"] };
      const refused = await service.post("/train", job);
      assert.deepEqual([refused.status, refused.body.title], [507, "Insufficient Storage"]);
      assert.match(
        refused.body.detail,
        /^The jobs' files cannot be read or written: No space left on device\.$/,
      );
      assert.equal((await service.post("/score", score)).status, 200);
      assert.equal((await service.get("/readyz")).status, 200);
      assert.equal((await service.app.request(`/train/${first}`, { method: "DELETE" })).status, 204);
      const { id } = service.service.store.create(newJobId(), spec).job; // in the room that this made
      await disk!.fill(0);
      service.service.runner.wake();
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.ok(["queued", "waiting_for_space"].includes(service.service.store.get(id)!.status));
      await disk!.empty();
      await service.until(id, "succeeded");
      assert.equal((await service.post("/train", job)).status, 202);
    },
  });
});

Deno.test({
  name:
    "GET /train/{id}/adapter?format=merged answers 507 where the merged weights find no room, and leaves none of them",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await using service = await testService();
    const id = put(service);
    await service.until(id, "succeeded");
    const exportMerged: ExportMerged = async (_model, _adapter, out) => {
      await Deno.mkdir(out);
      throw new Error(`No space left on device (os error 28): open '${out}'`);
    };
    const app = createApp({ ...service.service, exportMerged });
    const answer = await app.request(`/train/${id}/adapter?format=merged`);
    assert.equal(answer.status, 507);
    assert.equal(
      (await answer.json()).detail,
      "The jobs' files cannot be read or written: No space left on device.",
    );
    const left = await Array.fromAsync(Deno.readDir(jobFolder(service.service.config.state, id)));
    assert.ok(!left.some(({ name }) => name.startsWith("merged")), JSON.stringify(left));
  },
});

Deno.test("DELETE /train/{id} deletes a job whose rows do not leave the log of the data base before there is room", async () => {
  await using service = await testService();
  const id = put(service);
  await service.until(id, "succeeded");
  const { exec } = DatabaseSync.prototype;
  let full = true;
  DatabaseSync.prototype.exec = function (sql) {
    if (full && sql.includes("wal_checkpoint")) throw new Error("database or disk is full");
    return exec.call(this, sql);
  };
  try {
    assert.equal((await service.app.request(`/train/${id}`, { method: "DELETE" })).status, 204);
    assert.equal((await service.get(`/train/${id}`)).status, 404);
    assert.deepEqual(service.service.store.deleted(), [id]);
    full = false;
    while (service.service.store.deleted().length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  } finally {
    DatabaseSync.prototype.exec = exec;
  }
});

Deno.test("JobRunner has a job wait whose own files the system refuses, and fails one for another file", async () => {
  let path = "";
  await using service = await testService({
    beforeStep: () => {
      if (path !== "") throw new Error(`Permission denied (os error 13): mkdir '${path}'`);
    },
  });
  path = join(service.service.config.state, "jobs", "job-1", "checkpoints");
  const id = put(service);
  await service.until(id, "waiting_for_space");
  const why = "The jobs' files cannot be read or written: Permission denied.";
  assert.equal(service.service.store.get(id)!.waiting_for, why);
  assert.equal((await service.post(`/train/${id}/cancel`, "")).status, 202);
  path = join(service.root, "elsewhere");
  await service.until(put(service), "failed");
});

Deno.test("GET /train/{id}/adapter?format=merged answers where the size of what was merged cannot be written down", async () => {
  await using service = await testService();
  const { store } = service.service;
  const id = put(service);
  await service.until(id, "succeeded");
  await service.service.runner.measure(id);
  while (store.untidied().length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
  store.recordBytes = () => {
    throw new StorageError("database or disk is full", true);
  };
  assert.equal((await service.get(`/train/${id}/adapter?format=merged`)).status, 200);
});
