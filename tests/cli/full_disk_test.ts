import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openStore } from "../../src/cli/_command.ts";
import { readConfig } from "../../src/config.ts";
import { startFake } from "../helpers/process.ts";
import { makeRoot } from "../helpers/service.ts";
import { smallDisk } from "../helpers/small_disk.ts";

const probe = await smallDisk(1 << 20);
await probe?.[Symbol.asyncDispose]();

Deno.test({
  name: "train waits while the disk is full, says so, and tells every step once",
  ignore: probe === null,
  fn: async () => {
    const root = await makeRoot();
    try {
      await using disk = await smallDisk(4 << 20);
      const job = join(root, "job.json");
      await Deno.writeTextFile(job, JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }));
      const env = { SIMPO_STATE: disk!.path, SIMPO_MIN_FREE: "0" };
      await using train = startFake(root, 100, ["train", job], env);
      await train.line(/Loaded them/);
      await disk!.fill(0);
      const said = await train.line(/^Waiting: /);
      assert.match(
        said,
        /^Waiting: The jobs' files cannot be read or written: .*full.* It goes on by itself\.$/,
      );
      await disk!.empty();
      assert.equal(await train.code, 0, train.lines.join("\n"));
      const steps = (await train.stdout).trim().split("\n").map((line) => JSON.parse(line).step);
      assert.deepEqual(steps, [1, 2, 3, 4, 5, 5]);
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});

Deno.test({
  name: "train waits where less than SIMPO_MIN_FREE is free",
  ignore: probe === null,
  fn: async () => {
    const root = await makeRoot();
    try {
      await using disk = await smallDisk(8 << 20);
      const job = join(root, "job.json");
      await Deno.writeTextFile(job, JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }));
      await disk!.fill(1 << 20);
      await using train = startFake(root, 1, ["train", job], {
        SIMPO_STATE: disk!.path,
        SIMPO_MIN_FREE: "2",
      });
      const said = await train.line(/^Waiting: /);
      assert.match(said, /0 MiB are free, and 2 are to stay free \(SIMPO_MIN_FREE\)/);
      await disk!.empty();
      assert.equal(await train.code, 0, train.lines.join("\n"));
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
});

Deno.test({
  name: "openStore() brings its tables to this version on a full disk, in the room that was set aside",
  ignore: probe === null,
  fn: async () => {
    await using disk = await smallDisk(4 << 20);
    const config = { ...readConfig(), state: disk!.path };
    // every version is still to come
    new DatabaseSync(join(disk!.path, "jobs.sqlite")).close();
    await disk!.fill(0);
    await assert.rejects(openStore(config), /database or disk is full/);
    await disk!.fill(1 << 16);
    await Deno.writeFile(join(disk!.path, "reserve"), new Uint8Array(1 << 16));
    using store = await openStore(config);
    assert.deepEqual(store.list(1), []);
    await assert.rejects(Deno.stat(join(disk!.path, "reserve")), Deno.errors.NotFound);
  },
});
