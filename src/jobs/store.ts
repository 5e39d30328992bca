/** Training jobs and their events in SQLite: what must survive the process. */
import type { DatabaseSync } from "node:sqlite";
import type { DatasetSummary, Job, JobError } from "../api/job.ts";
import type { LoadProgress, TrainEvent } from "../engine/protocol.ts";
import { InputError } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { boundedText } from "../bounded.ts";
import { type LeftOut, mostRows } from "../preference/left_out.ts";
import { boundedError, mostCharacters, type Warnings, withWarning } from "./bounds.ts";
import { openDataBase, transaction } from "./data_base.ts";
import type { JobEvent, JobStatus } from "./job.ts";
import type { DatasetSpec, JobSpec, SourceSpec } from "./spec.ts";

/** The rows that were left out of one data set. */
type LeftOutOfSplit = LeftOut & { readonly split: "train" | "eval" };

/** What tells a repeated request from a new one. */
export interface Idempotency {
  readonly key: string;
  /** Hash of the request's content. */
  readonly hash: string;
}

/** Crashes in a row, without a new checkpoint, after which a job itself is taken to be the cause. */
const maxCrashes = 3;

const jobColumns =
  `number, id, status, spec, step, total_steps, tokens_per_second, seconds_remaining, plan, metrics, rows_read, left_out,
  warnings, bytes, cancel_requested, error, created_at, started_at, finished_at`;

interface JobRow {
  number: number;
  id: string;
  status: JobStatus;
  spec: string;
  step: number;
  total_steps: number | null;
  tokens_per_second: number | null;
  seconds_remaining: number | null;
  plan: string | null;
  metrics: string | null;
  rows_read: string;
  left_out: string;
  warnings: string;
  bytes: number | null;
  cancel_requested: number;
  error: string | null;
  created_at: string;
  started_at: string | null;
  finished_at: string | null;
}

/**
 * The jobs of one state folder. One process at a time has it open: a second one would train the same jobs.
 *
 * @example
 * ```ts
 * import { JobStore } from "./store.ts";
 * import { parseJobSpec } from "./spec.ts";
 * using store = new JobStore(":memory:");
 * const { job } = store.create("job-1", parseJobSpec({ model: "m", dataset: { path: "pairs.jsonl" } }));
 * console.assert(job.status === "queued" && store.events("job-1", 0).length === 1);
 * ```
 */
export class JobStore implements Disposable {
  readonly #db: DatabaseSync;
  readonly #listeners = new Map<string, Set<() => void>>();
  /** How far running jobs are with what comes before their steps. Of no use after the process, so not in the data base. */
  readonly #preparing = new Map<string, Partial<Pick<Job, "loading" | "downloading">>>();

  /** @throws InputError where another process has the store open */
  constructor(path: string) {
    this.#db = openDataBase(path);
  }

  /**
   * Puts a job at the end of the queue; the same idempotency key with the same request gives the job it gave before.
   *
   * @throws InputError where the key came with another request
   */
  create(id: string, spec: JobSpec, idempotency?: Idempotency): { job: Job; created: boolean } {
    const earlier = idempotency === undefined ? undefined : this.#db
      .prepare("SELECT id, request_hash FROM jobs WHERE idempotency_key = ?").get(idempotency.key);
    if (earlier !== undefined) {
      if (earlier["request_hash"] !== idempotency?.hash) {
        throw new InputError(
          `Idempotency-Key ${idempotency?.key} came with another request before: choose a new key.`,
          {
            path: ["Idempotency-Key"],
            value: idempotency?.key,
            accepted: "a new key, or the same request as before",
          },
        );
      }
      return { job: this.#expect(String(earlier["id"])), created: false };
    }
    const { dataset, eval_dataset, ...rest } = spec;
    const summary = {
      ...rest,
      dataset: summarise(dataset),
      eval_dataset: eval_dataset === null ? null : summarise(eval_dataset),
    };
    transaction(this.#db, () => {
      this.#db.prepare(
        `INSERT INTO jobs (id, status, spec, created_at, idempotency_key, request_hash)
         VALUES (?, 'queued', ?, ?, ?, ?)`,
      ).run(
        id,
        JSON.stringify(summary),
        new Date().toISOString(),
        idempotency?.key ?? null,
        idempotency?.hash ?? null,
      );
      this.#db.prepare("INSERT INTO datasets (job, data) VALUES (?, ?)")
        .run(id, JSON.stringify({ dataset, eval_dataset }));
      this.#append(id, "status", { status: "queued" });
    });
    return { job: this.#expect(id), created: true };
  }

  /** Whether a job came with this idempotency key. */
  hasKey(key: string): boolean {
    return this.#db.prepare("SELECT 1 FROM jobs WHERE idempotency_key = ?").get(key) !== undefined;
  }

  /** A job as it stands; undefined where there is none of this id. */
  get(id: string): Job | undefined {
    const row = this.#db.prepare(`SELECT ${jobColumns} FROM jobs WHERE id = ?`).get(id);
    return row === undefined ? undefined : this.#toJob(row);
  }

  /** Newest first; `before` is the number of the last job of the page before. */
  list(limit: number, before?: number): Job[] {
    const rows = this.#db.prepare(
      `SELECT ${jobColumns} FROM jobs WHERE ?1 IS NULL OR number < ?1 ORDER BY number DESC LIMIT ?2`,
    ).all(before ?? null, limit);
    return rows.map((row) => this.#toJob(row));
  }

  /** A job's place among all that ever were; undefined where there is none of this id. */
  numberOf(id: string): number | undefined {
    return this.#db.prepare("SELECT number FROM jobs WHERE id = ?").get(id)?.["number"] as number | undefined;
  }

  /** The data sets of a job, with the rows that came in its request. */
  datasets(id: string): { dataset: DatasetSpec; eval_dataset: DatasetSpec | null } {
    const row = this.#db.prepare("SELECT data FROM datasets WHERE job = ?").get(id);
    if (row === undefined) throw new TypeError(`No job ${id}.`);
    return JSON.parse(String(row["data"]));
  }

  /** The job that waits longest. */
  nextQueued(): Job | undefined {
    const row = this.#db.prepare(
      `SELECT ${jobColumns} FROM jobs WHERE status = 'queued' ORDER BY number LIMIT 1`,
    ).get();
    return row === undefined ? undefined : this.#toJob(row);
  }

  /**
   * After a crash of the process: what was running waits again at its old place, or as {@link crashed}.
   *
   * @param charged as {@link crashed} has it
   */
  recover(charged = true): void {
    const running = this.#db.prepare("SELECT id FROM jobs WHERE status = 'running' ORDER BY number").all();
    for (const { id } of running) {
      this.crashed(String(id), {
        message:
          `The worker ended ${maxCrashes} times in a row while it ran this job, without a new checkpoint ` +
          "in between; its log may say why, and too little memory is a common cause.",
      }, charged);
    }
  }

  /**
   * Puts a job back to where it waits whose process or device was lost; fails it where that comes again and again
   * without a new checkpoint in between.
   *
   * @param error what the job then fails with
   * @param charged whether it may be the job's doing
   */
  crashed(id: string, error: JobError, charged = true): void {
    const row = this.#db.prepare("SELECT crashes FROM jobs WHERE id = ?").get(id);
    const crashes = Number(row?.["crashes"]) + (charged ? 1 : 0);
    if (this.#expect(id).cancel_requested) this.finish(id, "cancelled");
    else if (crashes < maxCrashes) this.#queue(id, crashes);
    else this.finish(id, "failed", error);
  }

  /** Puts a running job back to where it waits, its checkpoints kept; one that was to be cancelled is. */
  requeue(id: string): void {
    if (this.#expect(id).cancel_requested) this.finish(id, "cancelled");
    else this.retry(id);
  }

  /** Queues a job again whatever became of it; it goes on from its last checkpoint. */
  retry(id: string): void {
    this.#queue(id, 0);
  }

  #queue(id: string, crashes: number): void {
    this.#change(id, () => {
      this.#db.prepare(
        `UPDATE jobs SET status = 'queued', seconds_remaining = NULL, tokens_per_second = NULL, error = NULL,
         finished_at = NULL, cancel_requested = 0, tidied = 0, crashes = ? WHERE id = ?`,
      ).run(crashes, id);
      this.#append(id, "status", { status: "queued" });
    });
  }

  /** Takes note of a download. */
  recordDownload(id: string, downloading: DownloadProgress): void {
    this.#preparing.set(id, { downloading });
    this.#tell(id);
  }

  /** Takes note of how far a job's weights are read. */
  recordLoading(id: string, loading: LoadProgress): void {
    this.#preparing.set(id, { loading });
    this.#tell(id);
  }

  /** Takes note of what the engine says. Metrics, checkpoints and warnings that a resumed job sends again are dropped. */
  record(id: string, event: TrainEvent): void {
    this.#change(id, () => {
      switch (event.type) {
        case "status":
          this.#db.prepare(
            `UPDATE jobs SET status = 'running', total_steps = ?, step = ?, started_at = ifnull(started_at, ?) WHERE id = ?`,
          ).run(event.total_steps, event.resumed_from, new Date().toISOString(), id);
          return this.#append(id, "status", {
            status: "running",
            total_steps: event.total_steps,
            resumed_from: event.resumed_from,
          });
        case "rows": {
          const { split, rows, shapes } = event;
          const read = { ...this.#json<Job["rows_read"]>(id, "rows_read"), [split]: { rows, shapes } };
          this.#db.prepare("UPDATE jobs SET rows_read = ? WHERE id = ?").run(JSON.stringify(read), id);
          return;
        }
        case "left_out": {
          const { type: _, ...left } = event;
          const others = this.#json<LeftOutOfSplit[]>(id, "left_out").filter(({ split }) =>
            split !== left.split
          );
          const splits = [...others, left].sort((a, b) => b.split.localeCompare(a.split)); // train first
          this.#db.prepare("UPDATE jobs SET left_out = ? WHERE id = ?").run(JSON.stringify(splits), id);
          return;
        }
        case "plan":
          this.#db.prepare("UPDATE jobs SET plan = ? WHERE id = ?").run(JSON.stringify(event.plan), id);
          return;
        case "progress":
          this.#db.prepare(
            `UPDATE jobs SET step = ?, total_steps = ?, tokens_per_second = ?, seconds_remaining = ? WHERE id = ?`,
          ).run(
            event.step,
            event.total_steps,
            finite(event.tokens_per_second),
            finite(event.seconds_remaining),
            id,
          );
          return;
        case "metrics": {
          const metrics = { ...this.#expect(id).metrics, ...event.metrics, step: event.step };
          this.#db.prepare("UPDATE jobs SET metrics = ?, step = max(step, ?) WHERE id = ?")
            .run(JSON.stringify(metrics), event.step, id);
          // A step's evaluation has other names than its training metrics and is an event of its own.
          const names = Object.keys(event.metrics).join(" ");
          return this.#append(
            id,
            "metrics",
            { step: event.step, ...event.metrics },
            `${event.step} ${names}`,
          );
        }
        case "checkpoint":
          // The crashes before it have cost nothing that would have to be done over.
          if (this.#append(id, "checkpoint", { step: event.step }, `${event.step}`)) {
            this.#db.prepare("UPDATE jobs SET crashes = 0 WHERE id = ?").run(id);
          }
          return;
        case "warning": {
          const message = boundedText(event.message, mostCharacters);
          if (!this.#append(id, "warning", { message }, message)) return;
          const warnings = withWarning(this.#json(id, "warnings"), message);
          this.#db.prepare("UPDATE jobs SET warnings = ? WHERE id = ?").run(JSON.stringify(warnings), id);
          return;
        }
      }
    });
  }

  /** Marks a job that the engine has taken on but not begun: rows are tokenised, weights are read. */
  start(id: string): void {
    this.#change(id, () => {
      this.#db.prepare("UPDATE jobs SET status = 'running', started_at = ifnull(started_at, ?) WHERE id = ?")
        .run(new Date().toISOString(), id);
    });
  }

  /** Takes note that a running job is to end; after a crash it does not go on. */
  requestCancel(id: string): void {
    this.#db.prepare("UPDATE jobs SET cancel_requested = 1 WHERE id = ?").run(id);
  }

  /**
   * Ends a job with the event `done`.
   *
   * @param whole why it failed
   * @param bytes size of its folder; as it was noted before unless given
   */
  finish(
    id: string,
    status: "succeeded" | "failed" | "cancelled",
    whole: JobError | null = null,
    bytes: number | null = null,
  ): void {
    const error = whole === null ? null : boundedError(whole);
    this.#change(id, () => {
      this.#db.prepare(
        `UPDATE jobs SET status = ?, error = ?, finished_at = ?, bytes = ifnull(?, bytes), tokens_per_second = NULL,
         seconds_remaining = CASE ?1 WHEN 'succeeded' THEN 0 END WHERE id = ?5`,
      ).run(status, error === null ? null : JSON.stringify(error), new Date().toISOString(), bytes, id);
      this.#append(id, "done", {
        status,
        step: this.#expect(id).progress.step,
        ...(error === null ? {} : { error }),
      });
    });
  }

  /** Takes note of the size of a job's folder. */
  recordBytes(id: string, bytes: number): void {
    this.#db.prepare("UPDATE jobs SET bytes = ? WHERE id = ?").run(bytes, id);
  }

  /** Takes note that the folder of a job that has ended holds only what is kept. */
  recordTidied(id: string): void {
    this.#db.prepare("UPDATE jobs SET tidied = 1 WHERE id = ?").run(id);
  }

  /** Jobs that have ended and whose folders may still hold what only a run needs. */
  untidied(): string[] {
    return this.#db.prepare("SELECT id FROM jobs WHERE status NOT IN ('queued', 'running') AND tidied = 0")
      .all()
      .map(({ id }) => String(id));
  }

  /** Jobs that wait or run and begin with what another job learned. */
  dependents(id: string): string[] {
    return this.#db.prepare(
      `SELECT id FROM jobs WHERE status IN ('queued', 'running')
       AND json_extract(spec, '$.settings.lora.init_adapter') = ? ORDER BY number`,
    ).all(id).map(({ id }) => String(id));
  }

  /** Deletes a job and its events; its idempotency key is free again. Its folder is {@link deleted} until it is forgotten. */
  delete(id: string): void {
    transaction(this.#db, () => {
      this.#db.prepare("DELETE FROM events WHERE job = ?").run(id);
      this.#db.prepare("DELETE FROM datasets WHERE job = ?").run(id);
      this.#db.prepare("DELETE FROM jobs WHERE id = ?").run(id);
      this.#db.prepare("INSERT INTO deleted_jobs (id) VALUES (?)").run(id);
    });
    this.#tell(id);
  }

  /** Jobs that have gone and whose folders may not have. */
  deleted(): string[] {
    return this.#db.prepare("SELECT id FROM deleted_jobs").all().map(({ id }) => String(id));
  }

  /** Takes note that a deleted job's folder has gone. */
  forget(id: string): void {
    this.#db.prepare("DELETE FROM deleted_jobs WHERE id = ?").run(id);
  }

  /** A job's events after the one with id `after`, 0: from the first; at most `limit`, -1: all of them. */
  events(id: string, after: number, limit = -1): JobEvent[] {
    return this.#db.prepare("SELECT id, type, data FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?")
      .all(id, after, limit)
      .map((row) => ({
        id: Number(row["id"]),
        type: String(row["type"]) as JobEvent["type"],
        data: JSON.parse(String(row["data"])),
      }));
  }

  /** Calls `listener` after each change of a job. @returns what ends it */
  subscribe(id: string, listener: () => void): () => void {
    const listeners = this.#listeners.get(id) ?? new Set();
    this.#listeners.set(id, listeners.add(listener));
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0 && this.#listeners.get(id) === listeners) this.#listeners.delete(id);
    };
  }

  /** Lets go of the file and its lock. */
  close(): void {
    this.#db.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #expect(id: string): Job {
    const job = this.get(id);
    if (job === undefined) throw new TypeError(`No job ${id}.`);
    return job;
  }

  #json<T>(id: string, column: "left_out" | "rows_read" | "warnings"): T {
    const row = this.#db.prepare(`SELECT ${column} FROM jobs WHERE id = ?`).get(id);
    return JSON.parse(String(row?.[column]));
  }

  /** @returns whether the event is new */
  #append(id: string, type: JobEvent["type"], data: Record<string, unknown>, repeated?: string): boolean {
    const { changes } = this.#db.prepare(
      `INSERT INTO events (job, id, type, data, repeat_key)
       VALUES (?1, (SELECT ifnull(max(id), 0) + 1 FROM events WHERE job = ?1), ?2, ?3, ?4)
       ON CONFLICT (job, repeat_key) DO NOTHING`,
    ).run(id, type, JSON.stringify(data), repeated === undefined ? null : `${type} ${repeated}`);
    return changes > 0;
  }

  #toJob(row: object): Job {
    const job = toJob(row as JobRow);
    const { loading = null, downloading = null } = this.#preparing.get(job.id) ?? {};
    return { ...job, loading, downloading };
  }

  #change(id: string, change: () => void): void {
    transaction(this.#db, change);
    this.#preparing.delete(id);
    this.#tell(id);
  }

  #tell(id: string): void {
    for (const listener of this.#listeners.get(id) ?? []) listener();
  }
}

function summarise(dataset: DatasetSpec): DatasetSummary {
  const ofSource = (source: SourceSpec) =>
    "path" in source ? source : { rows: source.report?.rows ?? source.comparisons.length };
  return Array.isArray(dataset) ? dataset.map(ofSource) : ofSource(dataset as SourceSpec);
}

/** The rows that were left out of both data sets. */
function joinSplits(splits: readonly LeftOutOfSplit[]): Job["rows_left_out"] {
  return {
    count: splits.reduce((sum, { count }) => sum + count, 0),
    reasons: splits.flatMap(({ split, reasons }) => reasons.map((reason) => ({ split, ...reason }))),
    first: splits.flatMap(({ split, first }) => first.map((row) => ({ split, ...row }))).slice(0, mostRows),
  };
}

/** A rate or time that is not known yet comes as NaN or infinity. */
function finite(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function toJob(
  {
    number: _,
    spec,
    step,
    total_steps,
    tokens_per_second,
    plan,
    metrics,
    rows_read,
    left_out,
    warnings,
    cancel_requested,
    error,
    ...row
  }: JobRow,
): Omit<Job, "loading" | "downloading"> {
  const said: Warnings = JSON.parse(warnings);
  const fraction = row.status === "succeeded" ? 1 : total_steps ? Math.min(step / total_steps, 1) : 0;
  return {
    ...JSON.parse(spec),
    ...row,
    progress: { step, total_steps, fraction, tokens_per_second },
    plan: plan === null ? null : JSON.parse(plan),
    metrics: metrics === null ? null : JSON.parse(metrics),
    rows_read: JSON.parse(rows_read),
    rows_left_out: joinSplits(JSON.parse(left_out)),
    warnings: said.first,
    warning_count: said.count,
    cancel_requested: cancel_requested === 1,
    error: error === null ? null : JSON.parse(error),
  };
}
