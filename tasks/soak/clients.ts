/** Two hundred clients beside a job. */
import assert from "node:assert/strict";
import { plainRows } from "../../tests/helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import type { Soak } from "./_soak.ts";

const MODEL = "models/tiny";
const CLIENTS = 200;
const TRAIN = {
  model: MODEL,
  dataset: { rows: plainRows(16) },
  lora: { r: 4 },
  max_steps: 1_000_000,
  batch_size: 2,
  max_length: 96,
  logging_steps: 1000,
  save_steps: 100_000,
};

const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Resident bytes of a process. */
async function residentBytes(pid: number): Promise<number> {
  const { stdout } = await new Deno.Command("ps", { args: ["-o", "rss=", "-p", `${pid}`] }).output();
  return Number(new TextDecoder().decode(stdout)) * 1024;
}

/** Steps a second of a job over some seconds. */
async function pace(worker: Worker, id: string, seconds: number): Promise<number> {
  const stepOf = async () => (await worker.get(`/train/${id}`)).body.progress.step as number;
  const [step, start] = [await stepOf(), performance.now()];
  await wait(seconds * 1000);
  return (await stepOf() - step) / (performance.now() - start) * 1000;
}

/** Scores again and again, some in lines, and waits as it is told where there are too many. */
async function client(worker: Worker, number: number, over: AbortSignal, statuses: Record<string, number>) {
  for (let i = 0; !over.aborted; i++) {
    const items = Array.from({ length: 1 + (number + i) % 3 }, (_, item) => ({
      prompt: `the thin ${number} ${i} ${item}`,
      candidates: [" sand", ` ${"sea ".repeat(number % 5)}`],
    }));
    const response = await fetch(`${worker.url}/score`, {
      method: "POST",
      headers: { "content-type": "application/json", ...i % 4 === 0 && { accept: "application/x-ndjson" } },
      body: JSON.stringify({ model: MODEL, items }),
    });
    const text = await response.text();
    statuses[response.status] = (statuses[response.status] ?? 0) + 1;
    assert.ok([200, 429].includes(response.status), `${response.status}: ${text.slice(0, 1000)}`);
    if (response.status !== 429) continue;
    const after = Number(response.headers.get("retry-after"));
    assert.ok(after > 0, "429 without Retry-After");
    await wait(after * 1000);
  }
}

/**
 * Has clients score beside a job.
 *
 * @returns answers by status, the job's pace beside them over its pace alone, resident bytes after a minute and at the end
 */
export async function clientsBesideJob(minutes: number, signal?: AbortSignal) {
  await using root = await makeRealRoot();
  await using worker = await Worker.start(root.path);
  const { id } = (await worker.post("/train", TRAIN)).body;
  while ((await worker.get(`/train/${id}`)).body.status !== "running") await wait(50);
  const alone = await pace(worker, id, 30);
  const statuses: Record<string, number> = {};
  const over = new AbortController();
  const clients = Array.from(
    { length: CLIENTS },
    (_, number) => client(worker, number, over.signal, statuses),
  );
  const failed = Promise.all(clients).then(() => undefined);
  const memory: number[] = [];
  const watched = (async () => {
    for (let minute = 1; minute <= minutes && !signal?.aborted; minute++) {
      await wait(60_000);
      memory.push(await residentBytes(worker.pid));
    }
  })();
  const beside = pace(worker, id, minutes * 60 - 5);
  await Promise.race([watched, failed]);
  over.abort();
  await failed;
  const figures = {
    clients: CLIENTS,
    statuses,
    steps_per_second_alone: alone,
    steps_per_second_beside: await beside,
    share: await beside / alone,
    resident_mb: memory.map((bytes) => Math.round(bytes / 2 ** 20)),
  };
  assert.ok((memory.at(-1) ?? 0) < 1.1 * (memory[0] ?? 0) + 64 * 2 ** 20, JSON.stringify(figures));
  assert.equal((await worker.get(`/train/${id}`)).body.status, "running");
  await worker.post(`/train/${id}/cancel`, "");
  assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
  return figures;
}

/** See {@link clientsBesideJob}. */
export const clients: Soak = {
  proves:
    "Two hundred clients beside a job get answers or are told when to come again; memory is flat, the job goes on.",
  version: 1,
  cells: ["1 minute", "10 minutes"],
  minutesPerCell: 6,
  run: (cell, signal) => clientsBesideJob(Number(cell.split(" ")[0]), signal),
};
