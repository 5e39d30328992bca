/** Training jobs and their events in SQLite: what must survive the process. */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import type { Job, JobError } from "../api/job.ts";
import type { LoadProgress, TrainEvent } from "../engine/protocol.ts";
import { InputError } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { logger } from "../log.ts";
import { boundedText } from "../bounded.ts";
import { boundedError, mostCharacters } from "./bounds.ts";
import { closeDataBase, openDataBase, transaction } from "./data_base.ts";
import { EventLog } from "./event_log.ts";
import type { JobEvent } from "./job.ts";
import { recordEvent } from "./record.ts";
import { jobColumns, readRows, type Row, summarise, toJob } from "./rows.ts";
import type { DatasetSpec } from "./given_rows.ts";
import type { JobSpec } from "./spec.ts";
import { storageError } from "./storage.ts";

const log = logger("jobs");

/** What tells a repeated request from a new one. */
export interface Idempotency {
  readonly key: string;
  /** Hash of the request's content. */
  readonly hash: string;
}

/** Crashes in a row, without a new checkpoint, after which a job itself is taken to be the cause. */
const maxCrashes = 3;

/**
 * The jobs of one state folder. One process at a time has it open: a second one would train the same jobs.
 *
 * @example A job that waits
 * ```ts
 * import assert from "node:assert/strict";
 * import { JobStore } from "./store.ts";
 * import { parseJobSpec } from "./spec.ts";
 * using store = new JobStore(":memory:");
 * const { job } = store.create("job-1", parseJobSpec({ model: "m", dataset: { path: "pairs.jsonl" } }));
 * assert.equal(job.status, "queued");
 * assert.equal(store.events("job-1", 0).length, 1);
 * ```
 */
export class JobStore implements Disposable {
  readonly #db: DatabaseSync;
  readonly #events: EventLog;
  /** How far running jobs are with what comes before their steps. Of no use after the process, so not in the data base. */
  readonly #preparing = new Map<string, Partial<Pick<Job, "loading" | "downloading">>>();
  /** What jobs wait for where not even that could be written. */
  readonly #waiting = new Map<string, string>();
  /** Why rows cannot be read, by the job's id. */
  readonly #setAside = new Map<string, string>();

  /** @throws InputError where another process has the store open */
  constructor(path: string) {
    this.#db = openDataBase(path);
    this.#events = new EventLog(this.#db);
  }

  /**
   * Puts a job at the end of the queue; the same idempotency key with the same request gives the job it gave before.
   *
   * A job that this returns outlives a power cut.
   *
   * @throws InputError where the key came with another request; StorageError
   */
  create(id: string, spec: JobSpec, idempotency?: Idempotency): { job: Job; created: boolean } {
    const [earlier] = idempotency === undefined
      ? []
      : readRows(this.#db, "SELECT id, request_hash FROM jobs WHERE idempotency_key = ?", idempotency.key);
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
      this.#events.append(id, "status", { status: "queued" });
    }, true);
    return { job: this.#expect(id), created: true };
  }

  /** Whether a job came with this idempotency key. */
  hasKey(key: string): boolean {
    return readRows(this.#db, "SELECT 1 FROM jobs WHERE idempotency_key = ?", key).length > 0;
  }

  /**
   * A job as it stands; undefined where there is none of this id.
   *
   * @throws InputError where its row cannot be read
   */
  get(id: string): Job | undefined {
    const job = this.#read(id);
    const why = this.#setAside.get(id);
    if (job !== undefined || why === undefined) return job;
    throw new InputError(
      `Job ${id} cannot be read from the data base and was set aside: ${why}.`,
      { path: ["id"], value: id, accepted: "another job; DELETE removes this one", status: 409 },
    );
  }

  /** Newest first, without those that cannot be read; `before` is the number of the last job of the page before. */
  list(limit: number, before?: number): Job[] {
    const jobs: Job[] = [];
    for (let from = before ?? null; jobs.length < limit;) {
      const rows = this.#rowsOf("?1 IS NULL OR number < ?1 ORDER BY number DESC LIMIT ?2", [
        from,
        limit - jobs.length,
      ]);
      if (rows.length === 0) break;
      from = Number(rows.at(-1)!["number"]);
      jobs.push(...rows.flatMap(({ id }) => this.#read(String(id)) ?? []));
    }
    return jobs;
  }

  /** Whether there is a job of this id that cannot be read. */
  isSetAside(id: string): boolean {
    this.#read(id);
    return this.#setAside.has(id);
  }

  /** Ids of jobs that cannot be read, and why, as far as they were met. */
  get setAside(): ReadonlyMap<string, string> {
    return this.#setAside;
  }

  /** A job's place among all that ever were; undefined where there is none of this id. */
  numberOf(id: string): number | undefined {
    return readRows(this.#db, "SELECT number FROM jobs WHERE id = ?", id)[0]?.["number"] as
      | number
      | undefined;
  }

  /**
   * The data sets of a job, with the rows that came in its request.
   *
   * @throws InputError where they are not as they were kept
   */
  datasets(id: string): { dataset: DatasetSpec; eval_dataset: DatasetSpec | null } {
    const unreadable = (why: string) =>
      new InputError(`The rows that job ${id} was given cannot be read from the data base: ${why}.`, {
        path: ["dataset"],
        accepted: "a new job with the same request",
      });
    const [row] = readRows(this.#db, "SELECT data FROM datasets WHERE job = ?", id);
    if (row === undefined) throw unreadable("they have gone");
    try {
      const { dataset, eval_dataset } = JSON.parse(String(row["data"]));
      if (dataset && typeof dataset === "object" && typeof eval_dataset === "object") {
        return { dataset, eval_dataset };
      }
    } catch (error) {
      throw unreadable((error as Error).message);
    }
    throw unreadable("they are something else");
  }

  /** The job that waits longest for its turn. */
  nextQueued(): Job | undefined {
    for (const id of this.#idsOf("queued")) {
      if (this.#waiting.has(id)) continue;
      const job = this.#read(id);
      if (job !== undefined) return job;
    }
  }

  /** Jobs that wait until the disk takes what they write. */
  waiting(): string[] {
    return [...new Set([...this.#idsOf("waiting_for_space"), ...this.#waiting.keys()])];
  }

  /**
   * After a crash of the process: what was running waits again at its old place, or as {@link crashed}.
   *
   * @param charged as {@link crashed} has it
   */
  recover(charged = true): void {
    for (const id of this.#idsOf("running")) {
      if (this.#read(id) === undefined) continue; // it is set aside
      try {
        this.crashed(id, {
          message:
            `The worker ended ${maxCrashes} times in a row while it ran this job, without a new checkpoint ` +
            "in between; its log may say why, and too little memory is a common cause.",
        }, charged);
      } catch (error) {
        this.wait(id, storageError(error)?.message ?? notKept(error));
      }
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
    const [row] = readRows(this.#db, "SELECT crashes FROM jobs WHERE id = ?", id);
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
         waiting_for = NULL, finished_at = NULL, cancel_requested = 0, tidied = 0, crashes = ? WHERE id = ?`,
      ).run(crashes, id);
      this.#events.append(id, "status", { status: "queued" });
    }, true);
  }

  /**
   * Puts a job down whose files or whose row could not be written; one that was to be cancelled is. It always can: where
   * this cannot be written either it holds for the life of the process, and a later one finds the job as after a crash.
   *
   * @param why in a sentence
   */
  wait(id: string, why: string): void {
    const waiting_for = boundedText(why, mostCharacters);
    this.#waiting.set(id, waiting_for);
    try {
      if (this.#expect(id).cancel_requested) return this.finish(id, "cancelled");
      this.#change(id, () => {
        this.#db.prepare(
          `UPDATE jobs SET status = 'waiting_for_space', waiting_for = ?, seconds_remaining = NULL,
           tokens_per_second = NULL WHERE id = ?`,
        ).run(waiting_for, id);
        this.#events.append(id, "status", { status: "waiting_for_space", waiting_for });
      });
    } catch (error) {
      if (storageError(error) === null) log.error("That job {id} waits is not kept: {error}", { id, error });
      this.#events.tell(id);
    }
  }

  /** Takes note of a download. */
  recordDownload(id: string, downloading: DownloadProgress): void {
    this.#preparing.set(id, { downloading });
    this.#events.tell(id);
  }

  /** Takes note of how far a job's weights are read. */
  recordLoading(id: string, loading: LoadProgress): void {
    this.#preparing.set(id, { loading });
    this.#events.tell(id);
  }

  /**
   * Takes note of what the engine says. Metrics, checkpoints and warnings that a resumed job sends again are dropped.
   *
   * @throws StorageError
   */
  record(id: string, event: TrainEvent): void {
    this.#change(id, () => recordEvent(this.#db, this.#events, id, event));
  }

  /** Warns of a job where the disk takes it, and else in the log: who uses the job's files is not kept from it. */
  warn(id: string, message: string): void {
    try {
      this.record(id, { type: "warning", message });
    } catch (error) {
      if (storageError(error) === null) throw error;
      log.warn("Of job {id}: {message}", { id, message });
    }
  }

  /** Marks a job that the engine has taken on but not begun: rows are tokenised, weights are read. */
  start(id: string): void {
    this.#change(id, () => {
      this.#db.prepare(
        `UPDATE jobs SET status = 'running', waiting_for = NULL, started_at = ifnull(started_at, ?) WHERE id = ?`,
      ).run(new Date().toISOString(), id);
    });
  }

  /** Takes note that a running job is to end; after a crash it does not go on. */
  requestCancel(id: string): void {
    this.#write(() => this.#db.prepare("UPDATE jobs SET cancel_requested = 1 WHERE id = ?").run(id), true);
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
         waiting_for = NULL, seconds_remaining = CASE ?1 WHEN 'succeeded' THEN 0 END WHERE id = ?5`,
      ).run(status, error === null ? null : JSON.stringify(error), new Date().toISOString(), bytes, id);
      this.#events.append(id, "done", {
        status,
        step: this.#expect(id).progress.step,
        ...(error === null ? {} : { error }),
      });
    }, true);
  }

  /** Takes note of the size of a job's folder. */
  recordBytes(id: string, bytes: number): void {
    this.#write(() => this.#db.prepare("UPDATE jobs SET bytes = ? WHERE id = ?").run(bytes, id));
  }

  /** Takes note that the folder of a job that has ended holds only what is kept. */
  recordTidied(id: string): void {
    this.#write(() => this.#db.prepare("UPDATE jobs SET tidied = 1 WHERE id = ?").run(id));
  }

  /** Jobs that have ended and whose folders may still hold what only a run needs. */
  untidied(): string[] {
    return this.#db.prepare(
      "SELECT id FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled') AND tidied = 0",
    ).all().map(({ id }) => String(id));
  }

  /** Jobs that wait or run and begin with what another job learned. */
  dependents(id: string): string[] {
    return readRows(
      this.#db,
      `SELECT id FROM jobs WHERE status IN ('queued', 'running', 'waiting_for_space')
       AND CASE WHEN json_valid(spec) THEN json_extract(spec, '$.settings.lora.init_adapter') END = ? ORDER BY number`,
      id,
    ).map(({ id }) => String(id));
  }

  /** Deletes a job and its events; its idempotency key is free again. Its folder is {@link deleted} until it is forgotten. */
  delete(id: string): void {
    transaction(this.#db, () => {
      this.#events.delete(id);
      this.#db.prepare("DELETE FROM datasets WHERE job = ?").run(id);
      this.#db.prepare("DELETE FROM jobs WHERE id = ?").run(id);
      this.#db.prepare("INSERT INTO deleted_jobs (id) VALUES (?)").run(id);
    }, true);
    this.#setAside.delete(id);
    this.#events.tell(id);
    try {
      this.#emptyLog();
    } catch (error) {
      // It has gone all the same, and forgetting it empties the log first.
      log.warn("Rows of the deleted job {id} are still in the log of the data base: {error}", { id, error });
    }
  }

  /** The log beside the data base still has the rows of a deleted job. */
  #emptyLog(): void {
    this.#db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  }

  /** Bytes of all jobs' folders as they were last measured, and of the data base. */
  bytes(): number {
    const [row] = readRows(
      this.#db,
      `SELECT (SELECT total(bytes) FROM jobs) + page_count * page_size AS bytes
       FROM pragma_page_count(), pragma_page_size()`,
    );
    return Number(row!["bytes"]);
  }

  /** Jobs that have gone and whose folders may not have. */
  deleted(): string[] {
    return this.#db.prepare("SELECT id FROM deleted_jobs").all().map(({ id }) => String(id));
  }

  /** Takes note that a deleted job's folder has gone. */
  forget(id: string): void {
    this.#emptyLog();
    this.#write(() => this.#db.prepare("DELETE FROM deleted_jobs WHERE id = ?").run(id));
  }

  /** A job's events after the one with id `after`, 0: from the first; at most `limit`, -1: all of them. */
  events(id: string, after: number, limit = -1): JobEvent[] {
    return this.#events.read(id, after, limit);
  }

  /** Calls `listener` after each change of a job. @returns what ends it */
  subscribe(id: string, listener: () => void): () => void {
    return this.#events.subscribe(id, listener);
  }

  /** Lets go of the file and its lock. */
  close(): void {
    closeDataBase(this.#db);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #expect(id: string): Job {
    const job = this.get(id);
    if (job === undefined) throw new TypeError(`No job ${id}.`);
    return job;
  }

  /** Ids of the jobs with a status, in the order of their places; of those too that cannot be read further. */
  #idsOf(status: Job["status"]): string[] {
    const isOther = (id: string) => (this.#read(id)?.status ?? status) !== status;
    return this.#rowsOf("status = ?1 ORDER BY number", [status], isOther).map(({ id }) => String(id));
  }

  /**
   * Ids and numbers of the jobs of a condition. Where SQLite cannot walk through the table, those that the index of their
   * ids has: each row is then read by itself, and what keeps one from being read keeps no other.
   */
  #rowsOf(where: string, values: SQLInputValue[], isOther = (_id: string) => false): Row[] {
    try {
      return readRows(this.#db, `SELECT id, number FROM jobs WHERE ${where}`, ...values);
    } catch (error) {
      if (storageError(error) === null) throw error;
      const condition = where.replace("status = ?1", "?1 NOT NULL");
      const sql = `SELECT id, number FROM jobs INDEXED BY sqlite_autoindex_jobs_1 WHERE ${condition}`;
      return readRows(this.#db, sql, ...values).filter(({ id }) => !isOther(String(id)));
    }
  }

  /** The job of an id; undefined where there is none, or its row cannot be read, which is said once. */
  #read(id: string): Job | undefined {
    try {
      const [row] = readRows(this.#db, `SELECT ${jobColumns} FROM jobs WHERE id = ?`, id);
      const job = row && this.#toJob(row);
      this.#setAside.delete(id);
      return job;
    } catch (error) {
      // From the index alone, as the row cannot be read.
      if (readRows(this.#db, "SELECT 1 FROM jobs WHERE id = ?", id).length === 0) throw error;
      const why = boundedText((error as Error).message, mostCharacters);
      if (!this.#setAside.has(id)) log.error("Job {id} cannot be read and is set aside: {why}", { id, why });
      this.#setAside.set(id, why);
    }
  }

  #toJob(row: Row): Job {
    const job = toJob(row);
    const { loading = null, downloading = null } = this.#preparing.get(job.id) ?? {};
    const waiting_for = this.#waiting.get(job.id);
    const waits = waiting_for === undefined ? {} : { status: "waiting_for_space" as const, waiting_for };
    return { ...job, loading, downloading, ...waits };
  }

  #change(id: string, change: () => void, lasting = false): void {
    transaction(this.#db, change, lasting);
    this.#preparing.delete(id);
    this.#waiting.delete(id);
    this.#events.tell(id);
  }

  /** A change that nobody is told of. */
  #write(change: () => void, lasting = false): void {
    transaction(this.#db, change, lasting);
  }
}

/** Why a job waits where it is not the disk that keeps its state from being written. */
export function notKept(error: unknown): string {
  return `Its state could not be kept: ${(error as Error).message}`;
}
