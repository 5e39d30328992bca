/** Jobs are deleted and resumed as a real service does it, killed in the middle. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesOf } from "../engine/_lab.ts";
import { startFake, urlOf } from "../helpers/process.ts";
import { makeRoot } from "../helpers/service.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { type JobEvent, makeRealRoot, Worker } from "./_worker.ts";

const isThere = (path: string) => Deno.stat(path).then(() => true, () => false);
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

Deno.test("DELETE /train/{id} that kill -9 falls into is brought to its end by the next start", async () => {
  const root = await makeRoot();
  try {
    let cutShort = false;
    for (let life = 0; life < 5 && !cutShort; life++) {
      await using before = startFake(root, 0, ["serve"]);
      const url = await urlOf(before);
      const { id } = await (await fetch(`${url}/train`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ model: "model", dataset: { path: "rows.jsonl" } }),
      })).json();
      const get = async () => await (await fetch(`${url}/train/${id}`)).json();
      while ((await get()).status !== "succeeded") await wait(5);
      const folder = join(root, "state", "jobs", id);
      for (let n = 0; n < 4000; n++) await Deno.writeTextFile(join(folder, "result", `${n}`), "");
      let answered = false;
      const asked = fetch(`${url}/train/${id}`, { method: "DELETE" }).catch(() => null).finally(() =>
        answered = true
      );
      while (!answered && (await get()).status === "succeeded");
      before.child.kill("SIGKILL");
      await before.code;
      await (await asked)?.body?.cancel();
      cutShort = await isThere(folder);

      await using after = startFake(root, 0, ["serve"]);
      const found = await fetch(`${await urlOf(after)}/train/${id}`);
      await found.body!.cancel();
      assert.equal(found.status, 404);
      for (let polls = 0; polls < 500 && await isThere(folder); polls++) await wait(10);
      assert.equal(await isThere(folder), false);
    }
    assert.ok(cutShort, "no kill fell into a deletion");
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("POST /train/{id}/resume after a cancel and kill -9 ends with the bits of the same job let alone, its rows gone meanwhile", async () => {
  await using root = await makeRealRoot();
  const job = {
    model: "models/tiny",
    dataset: { path: "rows.jsonl" },
    eval_dataset: { rows: plainRows(20, 11) },
    lora: { r: 4, dropout: 0.1 },
    max_steps: 14,
    batch_size: 16,
    micro_batch_tokens: 160,
    learning_rate: 3e-3,
    max_length: 96,
    max_prompt_length: 48,
    logging_steps: 3,
    save_steps: 2,
    eval_steps: 5,
    keep_checkpoints: 3,
  };
  const rows = join(root.path, "rows.jsonl");
  const writeRows = () =>
    Deno.writeTextFile(rows, plainRows(60).map((row) => JSON.stringify(row)).join("\n"));
  await writeRows();
  let id = "";
  let last = 0;
  {
    await using worker = await Worker.start(root.path);
    const { status, body } = await worker.post("/train", job);
    assert.equal(status, 202, JSON.stringify(body));
    id = body.id;
    for await (const event of worker.events(id, 0)) {
      last = event.id;
      if (event.type === "checkpoint" && event.data.step === 4) await worker.post(`/train/${id}/cancel`, "");
    }
    assert.equal((await worker.get(`/train/${id}`)).body.status, "cancelled");
    await Deno.remove(rows); // they are tokens on the disk
    assert.equal((await worker.post(`/train/${id}/resume`, "")).status, 202);
    for await (const event of worker.events(id, last)) {
      last = event.id;
      if (event.type === "checkpoint" && event.data.step >= 8) break;
    }
    await worker.end("SIGKILL");
  }
  await using worker = await Worker.start(root.path);
  for await (const event of worker.events(id, last)) last = event.id;
  await writeRows();
  const other = (await worker.post("/train", job)).body.id;
  const events = async (id: string) => await Array.fromAsync(worker.events(id, 0));
  const undisturbed = await events(other);
  const seen = await events(id);
  assert.equal(seen.at(-1)!.data.status, "succeeded", JSON.stringify(seen.at(-1)));
  assert.deepEqual(seen.filter(({ type }) => type === "done").map(({ data }) => data.status), [
    "cancelled",
    "succeeded",
  ]);
  const metrics = (events: readonly JobEvent[]) =>
    events.filter(({ type }) => type === "metrics").map(({ data }) => data);
  assert.deepEqual(metrics(seen), metrics(undisturbed));
  const folder = (id: string) => join(root.path, "state", "jobs", id);
  assert.deepEqual(await filesOf(join(folder(id), "result")), await filesOf(join(folder(other), "result")));
  const kept = Object.keys(await filesOf(join(folder(id), "checkpoints"))).sort();
  const files = [
    "adapter_config.json",
    "adapter_model.safetensors",
    "manifest.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ];
  assert.deepEqual(kept, [10, 12, 14].flatMap((step) => files.map((name) => join(`step-0000${step}`, name))));
  const { body } = await worker.get(`/train/${id}`);
  const bytes = Object.values(await filesOf(folder(id))).reduce((sum, file) => sum + file.length, 0);
  assert.equal(body.bytes, bytes);
  assert.equal(await worker.end("SIGINT"), 0);
});
