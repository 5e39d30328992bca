import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { mergeAside } from "../../src/engine/merge.ts";
import { InputError } from "../../src/errors.ts";
import { exportMerged } from "../../src/model/export.ts";
import { inFolder } from "../helpers/folder.ts";

const values = fileURLToPath(new URL("../reference/values/grouped", import.meta.url));

Deno.test("mergeAside() writes what exportMerged() writes, and the main thread goes on meanwhile", () =>
  inFolder(async (folder) => {
    const [model, adapter] = [join(values, "model"), join(values, "adapter")];
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    await mergeAside(model, adapter, join(folder, "aside"));
    clearInterval(timer);
    assert.ok(turns > 1, `${turns} turns of the event loop`);
    await exportMerged(model, adapter, join(folder, "here"));
    for (const name of ["model.safetensors", "config.json"]) {
      assert.deepEqual(
        await Deno.readFile(join(folder, "aside", name)),
        await Deno.readFile(join(folder, "here", name)),
      );
    }
  }));

Deno.test("mergeAside() refuses what cannot be merged as exportMerged() does", () =>
  inFolder(async (folder) => {
    await assert.rejects(mergeAside(folder, folder, join(folder, "out")), (error) => {
      assert.ok(error instanceof InputError);
      assert.equal(error.field, "config.json");
      return true;
    });
  }));

Deno.test("mergeAside() ends when its signal aborts", () =>
  inFolder(async (folder) => {
    const [model, adapter] = [join(values, "model"), join(values, "adapter")];
    const stop = new AbortController();
    const merging = mergeAside(model, adapter, join(folder, "out"), stop.signal);
    stop.abort(new Error("gone"));
    await assert.rejects(merging, /gone/);
    await assert.rejects(mergeAside(model, adapter, join(folder, "out"), stop.signal), /gone/);
  }));
