/** A job under which the disk is full for a while, held against the same job let alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesOf } from "../engine/_lab.ts";
import { smallDisk } from "../helpers/small_disk.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { type JobEvent, makeRealRoot, Worker } from "./_worker.ts";

const JOB = {
  model: "models/tiny",
  dataset: { rows: plainRows(60) },
  eval_dataset: { rows: plainRows(20, 11) },
  max_steps: 12,
  batch_size: 16,
  micro_batch_tokens: 160,
  learning_rate: 3e-3,
  max_length: 96,
  max_prompt_length: 48,
  logging_steps: 3,
  save_steps: 2,
  eval_steps: 5,
};

const DISK_BYTES = 16 * 2 ** 20;

/** One time that the disk is full. */
export interface FullDisk {
  /** Checkpoints after which it is filled; 0: right after the job was taken. */
  readonly after: number;
  /** Bytes that stay free. */
  readonly leave: number;
  /** Whether and how the process ends, and starts again, before there is room. */
  readonly end?: "SIGTERM" | "SIGKILL";
}

/**
 * Runs a job on a disk of its own that is filled, and has room again once the job waits for it.
 *
 * @returns how often the job waited, one number for each of `times`; null where no disk can be mounted
 * @throws AssertionError where the process ends, another call fails, or metrics or weights differ in a bit
 */
export async function endsAfterFullDisk(
  settings: object,
  times: readonly FullDisk[],
  signal?: AbortSignal,
): Promise<number[] | null> {
  await using root = await makeRealRoot();
  await using disk = await smallDisk(DISK_BYTES);
  if (disk === null) return null;
  const env = { SIMPO_STATE: disk.path, SIMPO_CACHE: join(root.path, "cache"), SIMPO_MIN_FREE: "0" };
  let worker = await Worker.start(root.path, env);
  try {
    let undisturbed: Outcome | null = null;
    const waits: number[] = [];
    for (const { after, leave, end } of times) {
      if (signal?.aborted) break;
      const told = `${leave} bytes free after ${after} checkpoints, ${end ?? "no restart"}`;
      const { id } = (await worker.post("/train", { ...JOB, ...settings })).body;
      await until(worker, id, ({ checkpoints, over }) => over || checkpoints >= after);
      await disk.fill(leave);
      const full = await until(worker, id, ({ over, waits }) => over || waits);
      if (full.waits) await serves(worker, id, told);
      if (end !== undefined) {
        const code = await worker.end(end);
        assert.equal(code, end === "SIGTERM" ? 0 : 137, `${told}: ${worker.log()}`);
        worker = await Worker.start(root.path, env);
        await serves(worker, id, told);
      }
      await disk.empty();
      await until(worker, id, ({ over }) => over);
      const outcome = await outcomeOf(worker, disk.path, id);
      undisturbed ??= await letAlone(worker, disk.path, settings);
      assert.deepEqual(outcome, undisturbed, told);
      waits.push(full.waits ? 1 : 0);
      assert.equal((await remove(worker, id)).status, 204, told);
    }
    assert.equal(await worker.end("SIGTERM"), 0, worker.log());
    return waits;
  } finally {
    await worker[Symbol.asyncDispose]();
  }
}

/** What a job comes to. */
interface Outcome {
  readonly status: string;
  readonly error: unknown;
  readonly metrics: readonly unknown[];
  readonly files: Readonly<Record<string, unknown>>;
}

async function letAlone(worker: Worker, state: string, settings: object): Promise<Outcome> {
  const { id } = (await worker.post("/train", { ...JOB, ...settings })).body;
  await until(worker, id, ({ over }) => over);
  const outcome = await outcomeOf(worker, state, id);
  await remove(worker, id);
  return outcome;
}

async function outcomeOf(worker: Worker, state: string, id: string): Promise<Outcome> {
  const { status, error } = (await worker.get(`/train/${id}`)).body;
  const events: JobEvent[] = await Array.fromAsync(worker.events(id, 0));
  assert.deepEqual(events.map(({ id }) => id), events.map((_, i) => i + 1));
  const metrics = events.filter(({ type }) => type === "metrics").map(({ data }) => data);
  const files: Record<string, unknown> = await filesOf(join(state, "jobs", id, "result"));
  delete files["README.md"]; // it has the job's id
  return { status, error, metrics, files };
}

/** What goes on while the disk is full. */
async function serves(worker: Worker, id: string, told: string): Promise<void> {
  assert.equal((await worker.get("/livez")).status, 200, told);
  const scored = await worker.post("/score", { model: "models/tiny", prompt: "a", candidates: ["b"] });
  assert.equal(scored.status, 200, `${told}: ${JSON.stringify(scored.body)}`);
  const { status, error, waiting_for } = (await worker.get(`/train/${id}`)).body;
  assert.equal(error, null, `${told}: ${status}`);
  if (status === "waiting_for_space") {
    assert.match(waiting_for, /cannot be read or written: .*(full|space)/, told);
  }
}

async function remove(worker: Worker, id: string): Promise<Response> {
  const answer = await fetch(`${worker.url}/train/${id}`, { method: "DELETE" });
  await answer.body?.cancel();
  return answer;
}

/** Waits for something of a job. */
async function until(
  worker: Worker,
  id: string,
  test: (job: { checkpoints: number; over: boolean; waits: boolean }) => boolean,
): Promise<{ waits: boolean }> {
  for (const start = performance.now(); performance.now() - start < 60_000;) {
    const { status, progress } = (await worker.get(`/train/${id}`)).body;
    const over = status === "succeeded" || status === "failed" || status === "cancelled";
    const job = { checkpoints: Math.floor(progress.step / 2), over, waits: status === "waiting_for_space" };
    if (test(job)) return job;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error(`Job ${id} stands still: ${JSON.stringify((await worker.get(`/train/${id}`)).body)}`);
}
