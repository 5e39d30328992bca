/** Many clients beside a job. */
import assert from "node:assert/strict";
import { plainRows } from "../../tests/helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import type { Soak } from "./_soak.ts";

const JOB = {
  model: "models/tiny",
  dataset: { rows: plainRows(500) },
  max_steps: 1_000_000,
  batch_size: 16,
  micro_batch_tokens: 1024,
  max_length: 96,
  save_steps: 500,
};

/**
 * Scores by `clients` clients at a time beside a job that has had the device for itself before.
 *
 * @returns the job's share of the device, its steps a second alone and beside them (where the device is the processor, server
 * and clients take of it too), requests by status, and MiB of memory after a fifth and at the end
 * @throws AssertionError where an answer is none of 200 and 429, the job has not its half of the device, or memory grows
 */
export async function load(clients: number, seconds: number, signal?: AbortSignal) {
  await using root = await makeRealRoot();
  await using worker = await Worker.start(root.path);
  const { id } = (await worker.post("/train", JOB)).body;
  const step = async (): Promise<number> => (await worker.get(`/train/${id}`)).body.progress.step;
  const rate = async (seconds: number, onFifth = () => Promise.resolve()) => {
    const [before, start] = [await step(), performance.now()];
    for (let fifth = 0; fifth < 5 && !signal?.aborted; fifth++) {
      await wait(seconds * 200);
      if (fifth === 0) await onFifth();
    }
    return (await step() - before) / (performance.now() - start) * 1000;
  };
  while (await step() < 3) await wait(100); // its kernels are compiled
  const alone = await rate(Math.min(seconds, 30));

  const statuses: Record<number, number> = {};
  let over = false;
  let slowest = 0;
  const client = async (number: number) => {
    const rows = plainRows(4, number);
    while (!over) {
      const start = performance.now();
      const { status, body } = await worker.post("/score", {
        model: "models/tiny",
        items: rows.map(({ prompt, chosen, rejected }) => ({ prompt, candidates: [chosen, rejected] })),
      });
      statuses[status] = (statuses[status] ?? 0) + 1;
      slowest = Math.max(slowest, performance.now() - start);
      assert.ok(status === 200 || status === 429, JSON.stringify(body));
    }
  };
  const scoring = Promise.all(Array.from({ length: clients }, (_, number) => client(number)));
  let memory = 0;
  const beside = await Promise.race([
    rate(seconds, async () => {
      memory = await worker.memory();
    }),
    scoring.then(() => assert.fail("A client ended.")),
  ]);
  const memoryAtEnd = await worker.memory();
  over = true;
  await scoring;
  await worker.post(`/train/${id}/cancel`, {});
  while ((await worker.get(`/train/${id}`)).body.status === "running") await wait(100);
  const share = Number(/"device_share":(0\.\d+)/.exec(worker.log())?.[1]);
  const figures = { share, alone, beside, statuses, slowest, memory, memoryAtEnd };
  if (signal?.aborted) return figures;
  assert.ok(share > 0.45, JSON.stringify(figures));
  assert.ok(memoryAtEnd < memory * 1.1 + 20, JSON.stringify(figures));
  return figures;
}

function wait(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** See {@link load}. */
export const underLoad: Soak = {
  proves:
    "A job keeps its share of the device beside 200 clients, none of which sees a 5xx, and memory stays flat.",
  version: 2,
  cells: ["20 clients", "200 clients", "600 clients"],
  minutesPerCell: 11,
  run: (cell, signal) => load(Number(cell.split(" ")[0]), 600, signal),
};
