/** SIGTERM at any moment. */
import assert from "node:assert/strict";
import { random } from "../../tests/helpers/random.ts";
import { plainRows } from "../../tests/helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "../../tests/service/_worker.ts";
import type { Soak } from "./_soak.ts";

const MODEL = "models/tiny";
const TRAIN = {
  model: MODEL,
  dataset: { rows: plainRows(200) },
  lora: { r: 4 },
  save_steps: 5,
  max_length: 96,
};
const ITEMS = Array.from(
  { length: 40 },
  (_, i) => ({ prompt: `the thin ${i}`, candidates: [" sand", " sea"] }),
);

/** Milliseconds after its start up to which a service is told to stop: it is starting, loading, reading rows, training. */
const LATEST = 4000;

/**
 * Tells services of one state folder to stop, each at another moment of a job and of calls that score.
 *
 * @returns how long they took
 * @throws where one ends with another code than 0, or a job is lost
 */
export async function stopAtMoments(seed: number, moments: number, signal?: AbortSignal) {
  const source = random(seed);
  await using root = await makeRealRoot();
  const times: number[] = [];
  const jobs: string[] = [];
  for (let i = 0; i < moments && !signal?.aborted; i++) {
    await using worker = await Worker.start(root.path);
    jobs.push((await worker.post("/train", TRAIN)).body.id);
    const calls = [1, 2, 3].map(() =>
      worker.post("/score", { model: MODEL, items: ITEMS }).catch(() => null)
    );
    await new Promise((resolve) => setTimeout(resolve, source.uniform() * LATEST));
    const start = performance.now();
    assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
    times.push(performance.now() - start);
    await Promise.all(calls);
  }
  await using worker = await Worker.start(root.path);
  for (const id of jobs) assert.equal((await worker.get(`/train/${id}`)).status, 200, id);
  assert.equal(await worker.end("SIGTERM"), 0, worker.log(20));
  const sorted = times.map(Math.round).sort((a, b) => a - b);
  return { stops: sorted.length, median_ms: sorted[sorted.length >> 1], longest_ms: sorted.at(-1) };
}

/** See {@link stopAtMoments}. */
export const stops: Soak = {
  proves: "SIGTERM at any moment ends the service with code 0 and loses no job; how long it takes is told.",
  version: 1,
  cells: ["seed 1", "seed 2"],
  minutesPerCell: 5,
  run: (cell, signal) => stopAtMoments(Number(cell.split(" ")[1]), 50, signal),
};
