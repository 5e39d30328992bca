/** The same rows in every format train the same, in a worker with the permissions that the launcher gives it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { makeRealRoot, Worker } from "./_worker.ts";

const fixtures = fileURLToPath(new URL("../fixtures/", import.meta.url));

/** The rows of the Parquet fixtures. */
const strings = ["one", "zwei ü", "三", "", "five 🙂"].map((prompt, i) => ({
  prompt,
  chosen: `good ${i}`,
  rejected: `bad ${i}`,
}));

/** The rows of the folders that save_to_disk wrote. */
const turns = [0, 1, 2, 3, 4].map((i) => ({
  prompt: [{ role: "user", content: `question ${i}`, ...(i === 1 ? { name: "ann" } : {}) }],
  chosen: [{ role: "assistant", content: `good ${i} 🙂` }],
  rejected: [{ role: "assistant", content: `bad ${i}` }],
}));

const lines = (rows: readonly unknown[]) => rows.map((row) => JSON.stringify(row) + "\n").join("");
const separated = (row: object, by: string) =>
  [Object.keys(row), Object.values(row)].map((fields) =>
    fields.map((field) => `"${field}"`).join(by) + "\r\n"
  ).join("");

Deno.test("POST /train gives the same metrics for the same rows in every format, folder, configuration and slice", async () => {
  await using root = await makeRealRoot();
  const files: Record<string, string | Uint8Array> = {
    "rows.jsonl": lines(strings),
    "set/1.json": JSON.stringify(strings.slice(0, 1), null, 2),
    "set/2.csv": separated(strings[1]!, ","),
    "set/3.tsv.gz": gzipSync(separated(strings[2]!, "\t")),
    "set/4.jsonl.zst": zstdCompressSync(lines(strings.slice(3, 4))),
    "set/README.md":
      "---\nconfigs:\n- config_name: a\n  data_files: a/*.jsonl\n- config_name: b\n  data_files: 2.csv\n---\n",
    "set/a/1.jsonl": lines(strings.slice(0, 2)),
    "set/a/2.jsonl": lines(strings.slice(2)),
    "turns.jsonl": lines(turns),
  };
  await Deno.mkdir(join(root.path, "set/a"), { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    await Deno.writeFile(
      join(root.path, name),
      typeof content === "string" ? new TextEncoder().encode(content) : content,
    );
  }
  await Deno.copyFile(join(fixtures, "parquet/lz4.parquet"), join(root.path, "set/lz4.parquet"));
  for (const folder of ["dict/train", "dict/test"]) {
    await Deno.mkdir(join(root.path, folder), { recursive: true });
    for await (const { name } of Deno.readDir(join(fixtures, "data", folder))) {
      await Deno.copyFile(join(fixtures, "data", folder, name), join(root.path, folder, name));
    }
  }
  await Deno.copyFile(
    join(fixtures, "data/dict/dataset_dict.json"),
    join(root.path, "dict/dataset_dict.json"),
  );

  await using worker = await Worker.start(root.path);
  const metricsOf = async (dataset: object): Promise<unknown[]> => {
    const job = {
      model: "models/tiny",
      dataset,
      num_train_epochs: 1,
      batch_size: 5,
    };
    const { status, body } = await worker.post("/train", job);
    assert.equal(status, 202, JSON.stringify(body));
    const metrics: unknown[] = [];
    for await (const { type, data } of worker.events(body.id, 0)) {
      if (type === "metrics") metrics.push(data);
      if (type === "done") assert.equal(data.status, "succeeded", JSON.stringify([dataset, data]));
    }
    assert.ok(metrics.length > 0);
    return metrics;
  };

  const wanted = await metricsOf({ path: "rows.jsonl" });
  const data_files = { text: ["1.json", "2.csv"], compressed: "[34].*", table: "lz4.parquet" };
  const mixed = { path: "set", data_files, split: "text+compressed+table[-20%:]" };
  for (const dataset of [mixed, { path: "set", name: "a" }]) {
    assert.deepEqual(await metricsOf(dataset), wanted, JSON.stringify(dataset));
  }
  const conversations = await metricsOf({ path: "turns.jsonl" });
  assert.deepEqual(await metricsOf({ path: "dict", split: "train+test" }), conversations);
  const { status, body } = await worker.post("/train", {
    model: "models/tiny",
    dataset: { path: "dict", split: "dev" },
  });
  assert.deepEqual([status, body.field], [422, "dataset.split"]);
  assert.match(body.detail, /the splits are train, test/);
});

Deno.test("GET /train stays short where a job's data set is one line of many rows, a JSON array", async () => {
  await using root = await makeRealRoot();
  const rows = Array.from(
    { length: 2000 },
    (_, i) => ({ prompt: `p ${i}`, chosen: "good", rejected: "bad" }),
  );
  await Deno.writeTextFile(join(root.path, "rows.json"), JSON.stringify(rows));
  await using worker = await Worker.start(root.path);
  const { body } = await worker.post("/train", {
    model: "models/tiny",
    dataset: { path: "rows.json" },
    max_steps: 1,
    batch_size: 4,
  });
  const events = await Array.fromAsync(worker.events(body.id, 0));
  const jobs = await (await fetch(`${worker.url}/train`)).text();
  assert.ok(jobs.length < 20_000, `${jobs.length}`);
  assert.equal(events.at(-1)!.data.status, "succeeded", JSON.stringify(events.at(-1)));
});
