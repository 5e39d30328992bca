import assert from "node:assert/strict";
import { join } from "node:path";
import { tighten } from "../src/private_files.ts";
import { startFake, urlOf } from "./helpers/process.ts";
import { inFolder } from "./helpers/folder.ts";
import { modes, openToOthers } from "./helpers/modes.ts";
import { makeRoot, testService } from "./helpers/service.ts";

const unix = { ignore: Deno.build.os === "windows" };

Deno.test(
  "serve() makes its folders and files for its own user alone, and tightens what was there",
  unix,
  async () => {
    const root = await makeRoot();
    const state = join(root, "state");
    try {
      const old = join(state, "jobs", "job-00000000000000000000", "result");
      await Deno.mkdir(old, { recursive: true, mode: 0o755 });
      await Deno.writeTextFile(join(old, "adapter.safetensors"), "", { mode: 0o644 });
      await Deno.mkdir(join(state, "hub", "models", "org"), { recursive: true });
      await using server = startFake(root, 1, ["serve"]);
      const url = await urlOf(server);
      const response = await fetch(`${url}/train`, {
        method: "POST",
        body: JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }),
        headers: { "content-type": "application/json" },
      });
      const { id } = await response.json();
      await (await fetch(`${url}/train/${id}/events`)).text();
      let open: string[];
      for (let tries = 0;; tries++) {
        // The fake engine writes checkpoints and results as it likes.
        open = (await openToOthers(state)).filter((path) => !path.startsWith(`jobs/${id}/`));
        if (open.length === 0 || tries === 50) break;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      assert.deepEqual(open, []);
      assert.equal((await modes(root))[join("state", "jobs.sqlite-wal")], "600");
    } finally {
      await Deno.remove(root, { recursive: true });
    }
  },
);

Deno.test(
  "tighten() leaves links and what is not the worker's as they are, and says what stays open",
  unix,
  () =>
    inFolder(async (folder) => {
      const state = join(folder, "state");
      const outside = join(folder, "outside");
      await Deno.mkdir(join(state, "jobs"), { recursive: true, mode: 0o755 });
      await Deno.writeTextFile(outside, "", { mode: 0o644 });
      await Deno.writeTextFile(join(state, "mine.sh"), "", { mode: 0o755 });
      await Deno.symlink(outside, join(state, "jobs", "link"));
      const cache = join(folder, "nowhere");
      assert.deepEqual(await tighten({ state, cache }), [
        "SIMPO_STATE holds other files too and stays open to other users of this machine.",
      ]);
      const found = await modes(folder);
      assert.deepEqual(
        [found["state"], found["state/jobs"], found["state/mine.sh"], found["outside"]],
        ["755", "700", "755", "644"],
      );
      await Deno.remove(join(state, "mine.sh"));
      assert.deepEqual(await tighten({ state, cache }), []);
      assert.equal((await modes(state))[""], "700");
    }),
);

Deno.test("DELETE /train/{id} leaves neither rows nor events in the data base's files", async () => {
  const marker = "unmistakable-marker";
  await using service = await testService({ beforeStep: () => Promise.reject(new Error(`${marker}-error`)) });
  const rows = Array.from({ length: 200 }, (_, i) => ({
    prompt: `${marker} ${i} ${"a".repeat(100)}`,
    chosen: "b",
    rejected: "c",
  }));
  const { body: { id } } = await service.post("/train", { model: "model", dataset: { rows } });
  await service.until(id, "failed");
  const state = join(service.root, "state");
  const holding = async () => {
    const found: string[] = [];
    for await (const { name, isFile } of Deno.readDir(state)) {
      if (!isFile) continue;
      const text = new TextDecoder("latin1").decode(await Deno.readFile(join(state, name)));
      if (text.includes(marker)) found.push(name);
    }
    return found;
  };
  assert.notDeepEqual(await holding(), []);
  const response = await service.app.request(`/train/${id}`, { method: "DELETE" });
  assert.equal(response.status, 204);
  assert.deepEqual(await holding(), []);
});
