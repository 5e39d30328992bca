import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { InputError } from "../../src/errors.ts";
import { transaction } from "../../src/jobs/data_base.ts";
import { readRows, whole } from "../../src/jobs/rows.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { storageError } from "../../src/jobs/storage.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { inFolder } from "../helpers/folder.ts";
import { smallDisk } from "../helpers/small_disk.ts";

const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });
const strace = Deno.build.os === "linux" && existsSync("/usr/bin/strace") ? "/usr/bin/strace" : null;

Deno.test("transaction() says that the disk is full, not that nothing can be rolled back, and the next one passes", () => {
  const db = new DatabaseSync(":memory:");
  db.exec("CREATE TABLE t (a TEXT); PRAGMA max_page_count = 4;");
  const insert = (text: string) => transaction(db, () => db.prepare("INSERT INTO t VALUES (?)").run(text));
  insert("before");
  assert.throws(
    () => insert("x".repeat(100_000)),
    (error) =>
      error instanceof InputError && error.status === 507 &&
      error.message === "The jobs' files cannot be read or written: database or disk is full.",
  );
  insert("after");
  assert.deepEqual(db.prepare("SELECT a FROM t").all().map(({ a }) => a), ["before", "after"]);
  db.close();
});

Deno.test("transaction() hands on what is no fault of the disk, all of the change undone", () => {
  const db = new DatabaseSync(":memory:");
  db.exec("CREATE TABLE t (a INTEGER) STRICT");
  const insert = db.prepare("INSERT INTO t VALUES (?)");
  const wrong = () => {
    insert.run(1);
    insert.run(1e300);
  };
  assert.throws(() => transaction(db, wrong), /cannot store REAL value in INTEGER column/);
  assert.deepEqual(db.prepare("SELECT a FROM t").all(), []);
  db.close();
});

const answers: [message: string, status: number | null][] = [
  ["No space left on device (os error 28): writefile '/state/x'", 507],
  ["Read-only file system (os error 30)", 503],
  ["disk I/O error", 503],
  ["attempt to write a readonly database", 503],
  ["Connection refused (os error 111)", null],
  ["device lost", null],
];
for (const [message, status] of answers) {
  Deno.test(`storageError() takes "${message}" as ${status ?? "no fault of the disk"}`, () => {
    const told = storageError(new Error(message));
    assert.equal(told?.status ?? null, status);
    assert.ok(!told?.message.includes("/state"), told?.message);
  });
}

Deno.test("readRows() reads whole numbers that JavaScript has none for, and whole() writes none such", () => {
  const db = new DatabaseSync(":memory:");
  db.exec("CREATE TABLE t (a INTEGER) STRICT; INSERT INTO t VALUES (9223372036854775807), (NULL)");
  assert.deepEqual(readRows(db, "SELECT a FROM t"), [{ a: 2 ** 63 }, { a: null }]);
  const insert = db.prepare("INSERT INTO t VALUES (?)");
  for (const count of [1e16, 9.3e18, 1e308, Infinity, -1e308, -Infinity]) insert.run(whole(count));
  assert.equal(whole(12.5), 12);
  assert.equal(whole(NaN), 0);
  db.close();
});

Deno.test("openDataBase() opens the jobs of a disk that is full", async (t) => {
  await using disk = await smallDisk(1 << 20);
  await t.step({
    name: "with the jobs as they are, and takes a job when there is room",
    ignore: disk === null,
    fn: async () => {
      const path = join(disk!.path, "jobs.sqlite");
      {
        using store = new JobStore(path);
        store.create("job-1", spec);
        store.start("job-1");
      }
      await disk!.fill(0);
      using store = new JobStore(path);
      store.recover();
      const { status, waiting_for } = store.get("job-1")!;
      assert.deepEqual([status, waiting_for], [
        "waiting_for_space",
        "The jobs' files cannot be read or written: database or disk is full.",
      ]);
      assert.deepEqual(store.waiting(), ["job-1"]);
      assert.equal(store.nextQueued(), undefined);
      assert.throws(() => store.create("job-2", spec), /database or disk is full/);
      await disk!.empty();
      store.requeue("job-1");
      store.create("job-2", spec);
      assert.deepEqual(store.list(9).map(({ status }) => status), ["queued", "queued"]);
      assert.deepEqual(store.waiting(), []);
    },
  });
});

Deno.test({
  name: "JobStore.create() has the disk keep the job and its folder before it returns",
  ignore: strace === null,
  fn: () =>
    inFolder(async (folder) => {
      const store = new URL("../../src/jobs/store.ts", import.meta.url).href;
      const program = `import { JobStore } from ${JSON.stringify(store)};
        const store = new JobStore("jobs.sqlite");
        store.create("job-1", ${JSON.stringify(spec)});
        Deno.stderr.writeSync(new TextEncoder().encode("answered"));
        store.record("job-1", { type: "checkpoint", step: 1 });
        Deno.stderr.writeSync(new TextEncoder().encode("recorded"));`;
      await Deno.writeTextFile(join(folder, "program.ts"), program);
      const config = new URL("../../deno.json", import.meta.url).pathname;
      const traced = ["-f", "-y", "-qq", "-e", "trace=write,pwrite64,fsync,fdatasync", "-o", "trace"];
      const run = ["run", "-q", "--no-check", "--cached-only", "--config", config];
      const { success, stderr } = await new Deno.Command(strace!, {
        args: [...traced, Deno.execPath(), ...run, "--allow-read=.", "--allow-write=.", "program.ts"],
        cwd: folder,
        env: { NO_COLOR: "1" },
      }).output();
      assert.ok(success, new TextDecoder().decode(stderr));
      const calls = (await Deno.readTextFile(join(folder, "trace"))).split("\n");
      const at = (pattern: RegExp, from = 0) => calls.findIndex((call, i) => i >= from && pattern.test(call));
      const answered = at(/"answered"/);
      const lastWrite = calls.slice(0, answered).findLastIndex((call) =>
        /pwrite64\(.*jobs\.sqlite-wal/.test(call)
      );
      const synced = at(/f(data)?sync\(.*jobs\.sqlite-wal/, lastWrite);
      assert.ok(lastWrite > 0 && synced > lastWrite && synced < answered, calls.join("\n"));
      const real = await Deno.realPath(folder);
      const fileSynced = at(/fsync\(\d+<[^>]*jobs\.sqlite>/);
      assert.ok(fileSynced > 0 && fileSynced < answered, calls.join("\n"));
      const folderSynced = at(new RegExp(`fsync\\(\\d+<${real}>`));
      assert.ok(folderSynced > 0 && folderSynced < answered, calls.join("\n"));
      // what a job tells meanwhile waits for no disk
      const recorded = at(/"recorded"/);
      assert.ok(!calls.slice(answered, recorded).some((call) => /sync\(/.test(call)), calls.join("\n"));
    }),
});
