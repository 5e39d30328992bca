import assert from "node:assert/strict";
import { join } from "node:path";
import { Crashes } from "../../src/engine/crashes.ts";
import { endedInScoring, Journal, readJournal, type ScoringWork } from "../../src/engine/journal.ts";
import { InputError } from "../../src/errors.ts";

const WORK: ScoringWork = { name: "score", model: "/models/a", adapter: null, quantization: null };

async function inFolder(test: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "simpo-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("Journal leaves behind what was under way, shorter entries over longer ones", () =>
  inFolder((folder) => {
    assert.equal(readJournal(folder), null);
    using journal = new Journal(folder);
    assert.equal(readJournal(folder), null, "nothing was under way");
    journal.job = "job-1";
    assert.deepEqual([readJournal(folder), endedInScoring(folder)], [{ job: "job-1", work: null }, false]);
    journal.work = { ...WORK, adapter: `/models/${"b".repeat(300)}` };
    assert.deepEqual([readJournal(folder)!.job, endedInScoring(folder)], ["job-1", true]);
    journal.work = WORK;
    assert.deepEqual(readJournal(folder), { job: "job-1", work: WORK });
    journal.work = null;
    journal.job = null;
    assert.equal(readJournal(folder), null);
  }));

Deno.test("readJournal() takes a file that is cut, empty, of another kind or no file for none", () =>
  inFolder(async (folder) => {
    const path = join(folder, "engine-journal.json");
    for (
      const text of [
        "",
        "\n",
        '{"job":"job-1","wor',
        "[]",
        "null",
        '{"job":1,"work":null}',
        '{"job":null,"work":7}',
      ]
    ) {
      await Deno.writeTextFile(path, text);
      assert.equal(readJournal(folder), null, text);
    }
    await Deno.remove(path);
    await Deno.mkdir(path);
    assert.equal(readJournal(folder), null);
  }));

Deno.test("Journal and Crashes go without a file where the folder has none to give", () => {
  using journal = new Journal("/nowhere");
  journal.job = "job-1";
  const crashes = new Crashes("/nowhere");
  crashes.charge(WORK);
  assert.equal(crashes.any, true);
});

Deno.test("Crashes holds the loading of weights against all that is done with them, until some of it ends well", () =>
  inFolder(async (folder) => {
    const crashes = new Crashes(null);
    const [load, score] = [{ ...WORK, name: "load" as const, model: folder }, { ...WORK, model: folder }];
    for (const work of [load, score, load]) crashes.charge(work);
    await assert.rejects(crashes.check(score), { name: "InputError", message: /3 times in a row/ });
    await crashes.check(load);
    crashes.charge(load);
    await assert.rejects(crashes.check(load), { name: "InputError" });
    crashes.clear(score);
    await crashes.check(load);
  }));

Deno.test("Crashes refuses after three in a row, beyond the process, by name, model, adapter and quantization", () =>
  inFolder(async (folder) => {
    const model = join(folder, "model");
    await Deno.mkdir(model);
    const work = { ...WORK, model };
    for (let life = 0; life < 3; life++) {
      const crashes = new Crashes(folder);
      await crashes.check(work);
      crashes.charge(work);
      await crashes.check({ ...work, name: "sequences" }); // which waits until it is kept
    }
    const crashes = new Crashes(folder);
    await assert.rejects(
      crashes.check(work),
      (error: InputError) => error.status === 422 && error.field === "model",
    );
    for (
      const other of [{ adapter: model }, { quantization: "int8" as const }, { name: "sequences" as const }]
    ) {
      await crashes.check({ ...work, ...other });
    }
    await Deno.writeTextFile(join(model, "config.json"), "{}");
    await crashes.check(work);
    crashes.charge(work);
    await crashes.check(work);
    crashes.clear(work);
    assert.deepEqual(JSON.parse(await Deno.readTextFile(join(folder, "engine-crashes.json"))), []);
  }));

Deno.test("Crashes begins anew where its file is damaged", () =>
  inFolder(async (folder) => {
    for (const text of ["", "{", "{}", "[1]", '[{"key":"a"}]', "[null]"]) {
      await Deno.writeTextFile(join(folder, "engine-crashes.json"), text);
      assert.equal(new Crashes(folder).any, false, text);
    }
  }));
