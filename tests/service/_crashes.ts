/** A job whose process is killed or stopped at chosen moments, held against the same job let alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { filesOf } from "../engine/_lab.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { type JobEvent, makeRealRoot, Worker } from "./_worker.ts";

/** Reading the rows takes about a quarter of a second, the steps a few more. */
const ROWS = 1000;

const JOB = {
  model: "models/tiny",
  dataset: { path: "train.jsonl" },
  eval_dataset: { rows: plainRows(30, 11) },
  max_steps: 48,
  batch_size: 16,
  micro_batch_tokens: 160,
  learning_rate: 3e-3,
  max_length: 96,
  max_prompt_length: 48,
  logging_steps: 3,
  save_steps: 5,
  eval_steps: 11,
};

/** What a life of the worker sees before it is ended. */
interface Life {
  readonly worker: Worker;
  readonly id: string;
  /** Where the job's checkpoints lie. */
  readonly checkpoints: string;
  /** Reads the job's events up to the first that the test holds for; false where the job has ended before. */
  until(test: (event: JobEvent) => boolean): Promise<boolean>;
}

/** When a life of the worker ends, and by which signal. */
export interface Moment {
  readonly name: string;
  readonly signal: "SIGKILL" | "SIGTERM";
  readonly reached: (life: Life) => Promise<unknown>;
}

const running = ({ type, data }: JobEvent) => type === "status" && data.status === "running";
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** While rows become tokens. */
export const readingRows: Moment = {
  name: "while rows are read",
  signal: "SIGKILL",
  reached: async ({ worker, id }) => {
    for (;;) {
      const { body } = await worker.get(`/train/${id}`);
      if (body.status === "running") return await wait(60);
      await wait(5);
    }
  },
};
/** Right after a checkpoint. */
export const afterCheckpoint: Moment = {
  name: "right after a checkpoint",
  signal: "SIGKILL",
  reached: async ({ until }) => await until(running) && await until(({ type }) => type === "checkpoint"),
};
/** While a checkpoint is written. */
export const writingCheckpoint: Moment = {
  name: "while a checkpoint is written",
  signal: "SIGKILL",
  reached: async ({ worker, id, checkpoints, until }) => {
    await until(running);
    for (let ended = false; !ended;) {
      for (let polls = 0; polls < 200; polls++) {
        if (names(checkpoints).some((name) => name.endsWith(".partial"))) return;
        await wait(0);
      }
      ended = (await worker.get(`/train/${id}`)).body.status !== "running";
    }
  },
};
/** Some time after the steps have begun. */
export const after = (ms: number, signal: Moment["signal"] = "SIGKILL"): Moment => ({
  name: `${ms.toFixed(0)} ms into its steps`,
  signal,
  reached: async ({ until }) => await until(running) && await wait(ms),
});

/** What the moments end: settings of a job by their name. */
export const TRAININGS: Readonly<Record<string, object>> = {
  LoRA: { lora: { r: 4, dropout: 0.1 } },
  "LoRA and whole modules": {
    lora: { r: 4, modules_to_save: ["lm_head", "norm"], ensure_weight_tying: true },
  },
  "LoRA on an int8 base": { lora: { r: 4 }, quantization: "int8" },
  "full fine-tuning": { lora: null },
};

/**
 * Runs a job through lives that end at the moments, then to its end.
 *
 * @param settings beside those of every such job
 * @returns the steps that it went on from
 * @throws AssertionError where metrics or weights differ in a bit from those of the same job let alone, or anything is lost
 */
export async function endsAsUndisturbed(settings: object, moments: readonly Moment[]): Promise<number[]> {
  await using root = await makeRealRoot();
  const rows = plainRows(ROWS).map((row) => `${JSON.stringify(row)}\n`).join("");
  await Deno.writeTextFile(join(root.path, "train.jsonl"), rows);
  const seen: JobEvent[] = [];
  let id = "";

  const live = async (worker: Worker): Promise<Life> => {
    if (id === "") id = (await worker.post("/train", { ...JOB, ...settings })).body.id;
    const until: Life["until"] = async (test) => {
      for await (const event of worker.events(id, seen.at(-1)?.id ?? 0)) {
        // progress of the moment, which is not kept and has no id of its own
        if (event.type === "loading") continue;
        seen.push(event);
        if (test(event)) return true;
      }
      return false;
    };
    return { worker, id, until, checkpoints: join(root.path, "state", "jobs", id, "checkpoints") };
  };

  for (const { name, signal, reached } of moments) {
    await using worker = await Worker.start(root.path);
    await reached(await live(worker));
    assert.equal((await worker.get("/livez")).status, 200);
    const code = await worker.end(signal);
    assert.equal(code, signal === "SIGKILL" ? 137 : 0, `${name}: ${worker.log()}`);
    assert.ok(!/did not end in time/.test(worker.log()), `${name}: ${worker.log()}`);
  }

  await using worker = await Worker.start(root.path);
  await (await live(worker)).until(({ type }) => type === "done");
  assert.deepEqual(seen.at(-1)!.data, { status: "succeeded", step: 48 });
  assert.deepEqual(seen.map(({ id }) => id), seen.map((_, i) => i + 1));
  const resumed = seen.filter(running).map(({ data }) => data.resumed_from);

  // the same job, let alone
  const other = (await worker.post("/train", { ...JOB, ...settings })).body.id;
  const undisturbed = await Array.fromAsync(worker.events(other, 0));
  const metrics = (events: readonly JobEvent[]) =>
    events.filter(({ type }) => type === "metrics").map(({ data }) => data);
  assert.deepEqual(metrics(seen), metrics(undisturbed));
  const result = (id: string) => filesOf(join(root.path, "state", "jobs", id, "result"));
  assert.deepEqual(await result(id), await result(other));
  const left = names(join(root.path, "state", "jobs", id, "checkpoints"));
  assert.ok(!left.some((name) => name.endsWith(".partial")), `${left}`);
  assert.equal(await worker.end("SIGINT"), 0);
  return resumed;
}

function names(folder: string): string[] {
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name);
  } catch {
    return [];
  }
}
