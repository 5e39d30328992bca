/** From rows to a trained adapter and back into /score: over HTTP, and the same from the command line. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { unpackTar } from "../../src/cli/_untar.ts";
import { filesOf, meansOf } from "../engine/_lab.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { startReal } from "../helpers/process.ts";
import { chatRows, plainRows } from "../helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "./_worker.ts";

const ROWS = plainRows(12);
const JOB = {
  model: "models/tiny",
  dataset: { path: "train.jsonl" },
  eval_dataset: { rows: ROWS },
  num_train_epochs: 3,
  batch_size: 4,
  learning_rate: 1e-2,
  max_length: 96,
  save_steps: 4,
};

const root = await makeRealRoot();
const jsonl = (rows: readonly unknown[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join("");
await Deno.writeTextFile(join(root.path, "train.jsonl"), jsonl(ROWS));
await Deno.writeTextFile(join(root.path, "job.json"), JSON.stringify(JOB));
const worker = await Worker.start(root.path);
Deno.test.afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

const items = ROWS.map(({ prompt, chosen, rejected }) => ({ prompt, candidates: [chosen, rejected] }));
const { body: { id } } = await worker.post("/train", JOB);

/** What stands beside a prompt in its batch, and what is known of it, may change a score's last bits. */
const SAME = { rtol: 1e-6, relativeTo: "element" } as const;

interface Scored {
  readonly results: readonly { readonly average_logprob: number }[];
}

async function score(adapter?: string, model = JOB.model): Promise<number[]> {
  const { status, body } = await worker.post("/score", { model, items, ...(adapter && { adapter }) });
  assert.equal(status, 200, JSON.stringify(body));
  return body.items.flatMap(({ results }: Scored) => results.map(({ average_logprob }) => average_logprob));
}

Deno.test("a job over HTTP: its events, its state, and its id as an adapter", async () => {
  const events = await Array.fromAsync(worker.events(id, 0));
  assert.deepEqual(events.at(-1)!.data, { status: "succeeded", step: 9 });
  const job = (await worker.get(`/train/${id}`)).body;
  assert.deepEqual(job.progress.step, 9);
  const { data } = events.findLast(({ type }) => type === "metrics")!;
  assert.equal(data.step, 9);
  assert.equal(job.metrics.eval_loss, data.eval_loss);
  const scored = await score(id);
  const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length;
  const [chosen, rejected] = [0, 1].map((part) => mean(scored.filter((_, i) => i % 2 === part)));
  assertClose([chosen!, rejected!], [data["eval_logps/chosen"], data["eval_logps/rejected"]], { rtol: 1e-5 });
  assert.ok(data["eval_rewards/accuracies"] >= 0.9);
});

Deno.test("a job on an int8 base: its id as an adapter scores as the job evaluated", async () => {
  const { body: { id } } = await worker.post("/train", { ...JOB, quantization: "int8" });
  const events = await Array.fromAsync(worker.events(id, 0));
  assert.deepEqual(events.at(-1)!.data, { status: "succeeded", step: 9 });
  const { data } = events.findLast(({ type }) => type === "metrics")!;
  const evaluated = [data["eval_logps/chosen"], data["eval_logps/rejected"]] as number[];
  assertClose(meansOf(await score(id)), evaluated, { rtol: 1e-5 });
  const { body } = await worker.post("/score", { model: JOB.model, items, adapter: id, quantization: null });
  const unquantized = body.items.flatMap(({ results }: Scored) => results.map((r) => r.average_logprob));
  assert.throws(() => assertClose(meansOf(unquantized), evaluated, { rtol: 1e-5 }));
});

Deno.test("a job's archives score as the job does: the adapter, and merged into the weights", async () => {
  const expected = await score(id);
  for (const format of ["adapter", "merged"]) {
    const response = await fetch(`${worker.url}/train/${id}/adapter?format=${format}`);
    const archive = new Uint8Array(await response.arrayBuffer());
    assert.equal(response.headers.get("content-length"), `${archive.length}`);
    await unpackTar(archive, join(root.path, format));
  }
  assertClose(await score("adapter"), expected, SAME);
  assertClose(await score(undefined, "merged"), expected, { rtol: 1e-5, relativeTo: "element" });
  assertClose(await score("merged"), await score(undefined, "merged"), SAME);
});

Deno.test("/score streams a line an item, and serves conversations", async () => {
  const response = await fetch(`${worker.url}/score`, {
    method: "POST",
    body: JSON.stringify({ model: JOB.model, adapter: id, items }),
    headers: { "content-type": "application/json", accept: "application/x-ndjson" },
  });
  const lines = (await response.text()).trim().split("\n").map((line) => JSON.parse(line) as Scored);
  const streamed = lines.flatMap(({ results }) => results.map(({ average_logprob }) => average_logprob));
  assertClose(streamed, await score(id), SAME);
  const { prompt } = chatRows(1)[0]!;
  const { body } = await worker.post("/score", {
    model: JOB.model,
    messages: prompt,
    candidates: ["hand", "sand"],
  });
  assert.equal(body.results.length, 2);
});

Deno.test("main.ts train and score give what the service gives, and a killed run goes on", async () => {
  const state = { SIMPO_STATE: join(root.path, "other") };
  const job = join(root.path, "job.json");
  {
    await using killed = await startReal(root.path, ["train", "--quiet", job], state);
    const checkpoints = async () => {
      for await (const { name } of Deno.readDir(join(root.path, "other", "jobs"))) {
        for await (const entry of Deno.readDir(join(root.path, "other", "jobs", name, "checkpoints"))) {
          if (entry.name.startsWith("step-")) return true;
        }
      }
      return false;
    };
    const ended = killed.code.then(() => true);
    while (!await checkpoints().catch(() => false)) {
      const stop = await Promise.race([ended, new Promise((resolve) => setTimeout(() => resolve(false), 1))]);
      if (stop) break;
    }
  }
  await using train = await startReal(root.path, ["train", job], state);
  assert.equal(await train.code, 0, train.lines.join("\n"));
  const metrics = (await train.stdout).trim().split("\n").filter((line) => line !== "").map((line) =>
    JSON.parse(line)
  );
  const events = await Array.fromAsync(worker.events(id, 0));
  const served = events.filter(({ type }) => type === "metrics").map(({ data }) => data);
  // the killed run has printed those before its end
  assert.deepEqual(metrics, served.slice(served.length - metrics.length));
  const [trained] = await Array.fromAsync(Deno.readDir(join(root.path, "other", "jobs")), ({ name }) => name);
  assert.deepEqual(
    await filesOf(join(root.path, "other", "jobs", trained!, "result")),
    await filesOf(join(root.path, "state", "jobs", id, "result")),
  );

  await Deno.writeTextFile(join(root.path, "in.jsonl"), jsonl(items));
  const [input, output] = [join(root.path, "in.jsonl"), join(root.path, "out.jsonl")];
  const args = ["score", "--model", JOB.model, "--adapter", trained!, input, output];
  await using process = await startReal(root.path, args, state);
  assert.equal(await process.code, 0, process.lines.join("\n"));
  const lines = (await Deno.readTextFile(output)).trim().split("\n").map((line) =>
    JSON.parse(line) as Scored
  );
  const scored = lines.flatMap(({ results }) => results.map(({ average_logprob }) => average_logprob));
  assertClose(scored, await score(id), SAME);
});
