/** Bytes of GPU buffers: nothing stays that nobody needs. */
import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, type JobOptions, Lab } from "./_lab.ts";

const item = itemOf(plainRows(1)[0]!);

Deno.test("memory() comes back to its level after every job, however it ends", async () => {
  await using lab = await Lab.open();
  await lab.score([item]);
  const { bytes, by_name } = await lab.engine.call("memory", null);
  const ended = new AbortController();
  const jobs: [job: JobOptions, end: string | RegExp][] = [
    [{ max_steps: 2, eval_rows: plainRows(2), save_steps: 1 }, "succeeded"],
    [{ max_steps: 2, lora: { r: 4, dropout: 0.2 }, activation_recomputation: true }, "succeeded"],
    [{ max_steps: 2, lora: null }, "succeeded"],
    [
      { lora: null, past: { learning_rate: 1e30 }, max_grad_norm: 0, max_steps: 6 },
      /^InputError: Training diverged/,
    ],
    [
      { dataset: await lab.writeRows("malformed.jsonl", [{}]) },
      /^InputError: dataset: malformed\.jsonl: row 1/,
    ],
    [{
      directory: lab.path("ended"),
      num_train_epochs: 100,
      signal: ended.signal,
      onEvent: ({ type }) => type === "progress" && ended.abort(),
    }, "cancelled"],
  ];
  for (const [i, [job, end]] of jobs.entries()) {
    if (typeof end === "string") assert.equal((await lab.train(job)).outcome, end, `job ${i}`);
    else await assert.rejects(lab.train(job), end, `job ${i}`);
    assert.deepEqual((await lab.engine.call("memory", null)).by_name, by_name, `job ${i}`);
  }
  const { peak_bytes } = await lab.engine.call("memory", null);
  assert.ok(peak_bytes > bytes);
});

Deno.test("memory() stays bounded however many models and adapters are scored with", async () => {
  await using lab = await Lab.open();
  const levels: number[] = [];
  const { result } = await lab.train({ max_steps: 1 });
  for (let i = 0; i < 6; i++) {
    const model = await lab.writeModel(`model-${i}`, { seed: i });
    await lab.score([item], { model });
    await lab.score([item], { model, adapter: result });
    levels.push((await lab.engine.call("memory", null)).bytes);
  }
  assert.equal(new Set(levels.slice(2)).size, 1, `${levels}`);
});

Deno.test("score() and train() at one time load a model once", async () => {
  await using lab = await Lab.open();
  await Promise.all([lab.train({ max_steps: 2 }), lab.score([item]), lab.score([item])]);
  const { by_name } = await lab.engine.call("memory", null);
  await using other = await Lab.open();
  await other.score([item]);
  assert.deepEqual(by_name, (await other.engine.call("memory", null)).by_name);
});

Deno.test("a device without room lets idle models go, then refuses by name, and goes on", async () => {
  // what one model with its scorer takes, and what a run takes beside it
  const measured = await measure();
  const limit = Math.round(1.5 * measured.scoring);
  await using lab = await Lab.open({ memoryLimitBytes: limit });
  for (let seed = 1; seed < 5; seed++) {
    const model = await lab.writeModel(`model-${seed}`, { seed });
    assert.equal((await lab.score([item], { model })).length, 1);
    assert.ok((await lab.engine.call("memory", null)).bytes <= limit);
  }
  for (const job of [{}, { lora: null }]) {
    await assert.rejects(lab.train({ max_steps: 1, micro_batch_tokens: 4096, ...job }), (error) => {
      assert.ok(error instanceof InputError, String(error));
      assert.match(
        error.message,
        /^The job needs [\d.]+ MiB of the device's memory with 4096 tokens a micro-batch/,
      );
      assert.match(error.message, /; [\d.]+ [KM]iB are to be had, enough for /);
      assert.equal(error.field, "model");
      return true;
    });
    const left = Object.keys((await lab.engine.call("memory", null)).by_name).filter((name) =>
      /^(train|trained)/.test(name)
    );
    assert.deepEqual(left, []);
  }
  assert.equal((await lab.score([item])).length, 1);

  // room for the run alone: what was scored with before goes
  await using tight = await Lab.open({ memoryLimitBytes: measured.training + 1000 });
  await tight.score([item]);
  const { outcome } = await tight.train({ max_steps: 2, lora: null, micro_batch_tokens: 512 });
  assert.equal(outcome, "succeeded");
});

async function measure(): Promise<{ scoring: number; training: number }> {
  await using lab = await Lab.open();
  await lab.train({ max_steps: 2, lora: null, micro_batch_tokens: 512 });
  const training = (await lab.engine.call("memory", null)).peak_bytes;
  await lab.score([item]);
  return { training, scoring: (await lab.engine.call("memory", null)).bytes };
}
