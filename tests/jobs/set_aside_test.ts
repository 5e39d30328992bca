/** One row of the data base that cannot be read: the others are served. */
import { configureSync, resetSync } from "@logtape/logtape";
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { JobStore } from "../../src/jobs/store.ts";
import { newJobId } from "../../src/jobs/folder.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { inFolder } from "../helpers/folder.ts";
import { makeRoot, testService } from "../helpers/service.ts";

const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });

/** What becomes of the row of job-2, and what is said of it. */
const damages: [name: string, sql: string, why: RegExp | null][] = [
  ["a count that JavaScript has no number for", "UPDATE jobs SET total_steps = 9223372036854775807", null],
  ["a size that JavaScript has no number for", "UPDATE jobs SET bytes = 9007199254740993", null],
  ["settings that are no JSON", `UPDATE jobs SET spec = '{"model":'`, /JSON/],
  ["a spec that is another value", "UPDATE jobs SET spec = 'null'", /its spec is null/],
  ["a spec without settings", `UPDATE jobs SET spec = '{"model":"m"}'`, /its spec.settings is nothing/],
  ["metrics that are no JSON", "UPDATE jobs SET metrics = 'NaN'", /JSON/],
  ["a status of no version", "UPDATE jobs SET status = 'odd'", /its status is "odd"/],
  ["warnings that are a number", "UPDATE jobs SET warnings = '7'", /its warnings is 7/],
];

for (const [name, sql, why] of damages) {
  Deno.test(`JobStore serves the other jobs where one has ${name}`, async () => {
    const root = await makeRoot();
    try {
      const path = join(root, "state", "jobs.sqlite");
      await Deno.mkdir(join(root, "state"));
      {
        using store = new JobStore(path);
        for (const id of ["job-1", "job-2", "job-3"]) store.create(id, spec);
        for (const id of ["job-1", "job-2"]) store.start(id);
      }
      const db = new DatabaseSync(path);
      db.exec(`${sql} WHERE id = 'job-2'`);
      db.close();

      await using service = await testService({ root });
      await service.until("job-3", "succeeded");
      await service.until("job-1", "succeeded");
      const { body } = await service.get("/train?limit=2");
      const shown = await service.get("/train/job-2");
      if (why === null) {
        await service.until("job-2", "succeeded");
        assert.deepEqual([shown.status, body.jobs.length, body.set_aside], [200, 2, undefined]);
        return;
      }
      assert.deepEqual(body.jobs.map(({ id }: { id: string }) => id), ["job-3", "job-1"]);
      assert.equal(body.next, null);
      assert.deepEqual(body.set_aside.map(({ id }: { id: string }) => id), ["job-2"]);
      assert.match(body.set_aside[0].why, why);
      assert.equal(shown.status, 409);
      assert.match(shown.body.detail, /^Job job-2 cannot be read from the data base and was set aside: /);
      assert.equal((await service.post("/train/job-2/cancel", "")).status, 409);
      const remove = (id: string) => service.app.request(`/train/${id}`, { method: "DELETE" });
      assert.equal((await remove("job-1")).status, 204);
      assert.equal((await remove("job-2")).status, 204);
      assert.equal((await service.get("/train/job-2")).status, 404);
      assert.deepEqual((await service.get("/train")).body.set_aside, undefined);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  });
}

Deno.test("JobStore keeps the place of an event that cannot be read", async () => {
  const root = await makeRoot();
  try {
    const path = join(root, "jobs.sqlite");
    {
      using store = new JobStore(path);
      store.create("job-1", spec);
      for (const step of [1, 2]) store.record("job-1", { type: "checkpoint", step });
    }
    const db = new DatabaseSync(path);
    db.exec("UPDATE events SET data = '{' WHERE id = 2");
    db.close();
    using store = new JobStore(path);
    const events = store.events("job-1", 0);
    assert.deepEqual(events.map(({ id }) => id), [1, 2, 3]);
    assert.match(String(events[1]!.data["unreadable"]), /JSON/);
    assert.deepEqual(events[2]!.data, { step: 2 });
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("JobStore serves the other jobs where a page of one's row is damaged", () =>
  inFolder(async (folder) => {
    const path = join(folder, "jobs.sqlite");
    const long = parseJobSpec({
      model: "model",
      dataset: { path: "rows.jsonl" },
      chat_template: "x".repeat(50_000),
    });
    {
      using store = new JobStore(path);
      for (const id of ["job-1", "job-2", "job-3"]) store.create(id, id === "job-2" ? long : spec);
    }
    const bytes = await Deno.readFile(path);
    // The pages of a long value are a chain, each beginning with the number of the next.
    const page = 4096;
    const of = (text: string) => new TextEncoder().encode(text);
    const isOfChain = (at: number) => bytes.subarray(at + 4, at + page).every((byte) => byte === of("x")[0]);
    const pages = Array.from({ length: bytes.length / page }, (_, i) => i * page).filter(isOfChain);
    assert.ok(pages.length > 5, `${pages}`);
    for (const at of pages.slice(0, 3)) bytes.fill(255, at, at + 4);
    await Deno.writeFile(path, bytes);
    using store = new JobStore(path);
    assert.deepEqual(store.list(9).map(({ id }) => id), ["job-3", "job-1"]);
    assert.match(store.setAside.get("job-2")!, /malformed/);
    assert.equal(store.nextQueued()!.id, "job-1");
    store.create("job-4", spec);
    assert.equal(store.list(1)[0]!.id, "job-4");
  }));

Deno.test("JobStore() takes the jobs of an earlier version over but for one that cannot be read", () =>
  inFolder((folder) => {
    const path = join(folder, "jobs.sqlite");
    {
      using store = new JobStore(path);
      for (const id of ["job-1", "job-2"]) store.create(id, spec);
    }
    const db = new DatabaseSync(path);
    // as version 5 had it
    db.exec(`ALTER TABLE jobs DROP COLUMN waiting_for; ALTER TABLE jobs DROP COLUMN rows_read;
      ALTER TABLE jobs DROP COLUMN warnings; ALTER TABLE jobs DROP COLUMN bytes; ALTER TABLE jobs DROP COLUMN tidied;
      DROP TABLE deleted_jobs; ALTER TABLE jobs ADD COLUMN datasets TEXT NOT NULL DEFAULT '{}';
      UPDATE jobs SET datasets = (SELECT data FROM datasets WHERE job = jobs.id); DROP TABLE datasets;
      UPDATE jobs SET spec = '{', left_out = 'x' WHERE id = 'job-1'; PRAGMA user_version = 5;`);
    db.close();
    using store = new JobStore(path);
    assert.deepEqual(store.list(9).map(({ id }) => id), ["job-2"]);
    assert.deepEqual([...store.setAside.keys()], ["job-1"]);
    assert.equal(store.get("job-2")!.settings.keep_checkpoints, 2);
    assert.deepEqual(store.dependents("job-2"), []);
    return Promise.resolve();
  }));

Deno.test("JobRunner runs the other jobs where the row of one that waits for room cannot be read", async () => {
  const root = await makeRoot();
  try {
    const path = join(root, "state", "jobs.sqlite");
    await Deno.mkdir(join(root, "state"));
    {
      using store = new JobStore(path);
      for (const id of ["job-1", "job-2", "job-3"]) store.create(id, spec);
      for (const id of ["job-1", "job-2"]) store.wait(id, "the disk is full");
    }
    const db = new DatabaseSync(path);
    db.exec("UPDATE jobs SET metrics = '[' WHERE id = 'job-1'");
    // What was to be removed is no job's folder: the folder above it has all of them.
    db.exec("INSERT INTO deleted_jobs VALUES (''), ('..'), ('../models')");
    db.close();
    await using service = await testService({ root });
    await service.until("job-2", "succeeded");
    await service.until("job-3", "succeeded");
    assert.equal((await service.get("/readyz")).status, 200);
    assert.deepEqual((await service.get("/train")).body.set_aside.map(({ id }: { id: string }) => id), [
      "job-1",
    ]);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("JobRunner takes up the other jobs where one of a crash can neither be queued nor be said to wait", async () => {
  const root = await makeRoot();
  try {
    const path = join(root, "state", "jobs.sqlite");
    await Deno.mkdir(join(root, "state"));
    {
      using store = new JobStore(path);
      for (const id of ["job-1", "job-2", "job-3"]) store.create(id, spec);
      for (const id of ["job-1", "job-2", "job-3"]) store.start(id);
    }
    const db = new DatabaseSync(path);
    db.exec("UPDATE jobs SET crashes = -9223372036854775808 WHERE id = 'job-1'");
    db.exec("UPDATE events SET id = 9223372036854775807 WHERE job = 'job-2'");
    db.exec("UPDATE datasets SET data = '{' WHERE job = 'job-3'");
    db.close();
    await using service = await testService({ root });
    for (const id of ["job-1", "job-2"]) await service.until(id, "succeeded");
    await service.until("job-3", "failed");
    const { error } = service.service.store.get("job-3")!;
    assert.match(
      error!.message,
      /^The rows that job job-3 was given cannot be read from the data base: .*JSON/,
    );
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("JobStore lists and queues the other jobs where SQLite cannot walk through the table", () =>
  inFolder(async (folder) => {
    const path = join(folder, "jobs.sqlite");
    const ids = ["job-1", "job-2", "job-3", "job-4"];
    const preset = "x".repeat(3000); // a page for each row
    {
      using store = new JobStore(path);
      for (const id of ids) store.create(id, { ...spec, preset });
      for (const id of ["job-1", "job-2"]) store.start(id);
    }
    const bytes = await Deno.readFile(path);
    const page = 4096;
    const text = (at: number) => new TextDecoder("latin1").decode(bytes.subarray(at, at + page));
    const at = Array.from({ length: bytes.length / page }, (_, i) => i * page)
      .findLast((at) => bytes[at] === 13 && text(at).includes("job-2") && text(at).includes("xxxx"))!;
    bytes.fill(0, at, at + page);
    await Deno.writeFile(path, bytes);
    using store = new JobStore(path);
    store.recover();
    assert.deepEqual(store.list(9).map(({ id }) => id), ["job-4", "job-3", "job-1"]);
    assert.deepEqual(store.list(1, 3).map(({ id }) => id), ["job-1"]);
    assert.match(store.setAside.get("job-2")!, /malformed/);
    assert.deepEqual([store.get("job-1")!.status, store.nextQueued()!.id], ["queued", "job-1"]);
    assert.throws(() => store.get("job-2"), { name: "InputError", message: /set aside/ });
  }));

Deno.test("JobRunner says that there are folders of jobs that the data base does not know", async () => {
  const root = await makeRoot();
  const said: string[] = [];
  configureSync({
    sinks: { said: ({ message }) => void said.push(message.join("")) },
    loggers: [
      { category: "simpo", sinks: ["said"], lowestLevel: "error" },
      { category: ["logtape", "meta"], lowestLevel: "fatal" },
    ],
  });
  try {
    const [known, lost] = [newJobId(), newJobId()];
    for (const id of [known, lost]) await Deno.mkdir(join(root, "state", "jobs", id), { recursive: true });
    {
      using store = new JobStore(join(root, "state", "jobs.sqlite"));
      store.create(known, spec);
    }
    await using service = await testService({ root });
    await service.until(known, "succeeded");
    assert.deepEqual(said, [
      `1 folders in SIMPO_STATE/jobs, ${lost} among them, are of no job in jobs.sqlite: a part of it may be lost.`,
    ]);
  } finally {
    resetSync();
    await Deno.remove(root, { recursive: true });
  }
});
