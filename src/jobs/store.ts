/** Training jobs and their events in SQLite: what must survive the process. */
import type { SQLInputValue } from "node:sqlite";
import type { Job, JobError } from "../api/job.ts";
import type { LoadProgress, TrainEvent } from "../engine/protocol.ts";
import { InputError } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { logger } from "../log.ts";
import { boundedText } from "../bounded.ts";
import { boundedError, MOST_CHARACTERS } from "./bounds.ts";
import { closeDataBase, openDataBase, transaction } from "./data_base.ts";
import { EventLog } from "./event_log.ts";
import type { JobEvent } from "./job.ts";
import { recordEvent } from "./record.ts";
import { readRows, summarise } from "./rows.ts";
import type { JobSpec } from "./spec.ts";
import { storageError, whyWaiting } from "./storage.ts";
import { StoredJobs } from "./stored_jobs.ts";

const log = logger("jobs");

/** What tells a repeated request from a new one. */
export interface Idempotency {
  readonly key: string;
  /** Hash of the request's content. */
  readonly hash: string;
}

/** Crashes in a row, without a new checkpoint, after which a job itself is taken to be the cause. */
const MAX_CRASHES = 3;

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
export class JobStore extends StoredJobs implements Disposable {
  readonly #events: EventLog;

  /** @throws {InputError} where another process has the store open */
  constructor(path: string) {
    super(openDataBase(path));
    this.#events = new EventLog(this.db);
  }

  /**
   * Puts a job at the end of the queue; the same idempotency key with the same request gives the job it gave before.
   *
   * A job that this returns outlives a power cut.
   *
   * @throws {InputError} where the key came with another request
   * @throws {StorageError} where the disk does not take it
   */
  create(id: string, spec: JobSpec, idempotency?: Idempotency): { job: Job; created: boolean } {
    const { key, hash } = idempotency ?? { key: null, hash: null };
    const earlier = this.withKey(key);
    if (earlier !== undefined) {
      if (earlier["request_hash"] === hash) return { job: this.find(String(earlier["id"])), created: false };
      throw new InputError(`Idempotency-Key ${key} came with another request before: choose a new key.`, {
        path: ["Idempotency-Key"],
        value: key,
        accepted: "a new key, or the same request as before",
      });
    }
    const datasets = JSON.stringify({ dataset: spec.dataset, eval_dataset: spec.eval_dataset });
    transaction(this.db, () => {
      this.db.prepare(
        `INSERT INTO jobs (id, status, spec, created_at, idempotency_key, request_hash)
         VALUES (?, 'queued', ?, ?, ?, ?)`,
      ).run(id, JSON.stringify(summarise(spec)), new Date().toISOString(), key, hash);
      this.db.prepare("INSERT INTO datasets (job, data) VALUES (?, ?)").run(id, datasets);
      this.#events.append(id, "status", { status: "queued" });
    }, true);
    return { job: this.find(id), created: true };
  }

  /**
   * Queues again what was running as an earlier process ended, at its old place; else as {@link crashed}.
   *
   * @param charged as {@link crashed} has it
   */
  recover(charged = true): void {
    for (const id of this.idsOf("running")) {
      if (this.read(id) === undefined) continue; // it is set aside
      try {
        this.crashed(id, {
          message:
            `The worker ended ${MAX_CRASHES} times in a row while it ran this job, without a new checkpoint ` +
            "in between; its log may say why, and too little memory is a common cause.",
        }, charged);
      } catch (error) {
        this.wait(id, whyWaiting(error));
      }
    }
  }

  /**
   * Queues a job again whose process or device was lost, and fails it after {@link MAX_CRASHES} of these without a new
   * checkpoint in between.
   *
   * @param error what the job fails with
   * @param charged whether the job may be the cause
   */
  crashed(id: string, error: JobError, charged = true): void {
    const [row] = readRows(this.db, "SELECT crashes FROM jobs WHERE id = ?", id);
    const crashes = Number(row?.["crashes"]) + (charged ? 1 : 0);
    if (crashes < MAX_CRASHES || this.find(id).cancel_requested) this.requeue(id, crashes);
    else this.finish(id, "failed", error);
  }

  /** Queues a running job again, with its checkpoints; one that was to be cancelled is cancelled. */
  requeue(id: string, crashes = 0): void {
    if (this.find(id).cancel_requested) this.finish(id, "cancelled");
    else this.retry(id, crashes);
  }

  /** Queues a job again, whatever its status; it goes on from its last checkpoint. */
  retry(id: string, crashes = 0): void {
    this.#change(id, () => {
      this.db.prepare(
        `UPDATE jobs SET status = 'queued', seconds_remaining = NULL, tokens_per_second = NULL, error = NULL,
         waiting_for = NULL, finished_at = NULL, cancel_requested = 0, tidied = 0, crashes = ? WHERE id = ?`,
      ).run(crashes, id);
      this.#events.append(id, "status", { status: "queued" });
    }, true);
  }

  /**
   * Has a job wait whose files or row could not be written; one that was to be cancelled is cancelled. Where this cannot be
   * written either it holds for the life of the process, and a later process finds the job as after a crash.
   *
   * @param why in a sentence
   */
  wait(id: string, why: string): void {
    const waiting_for = boundedText(why, MOST_CHARACTERS);
    this.unwritten.set(id, waiting_for);
    try {
      if (this.find(id).cancel_requested) return this.finish(id, "cancelled");
      this.#change(id, () => {
        this.db.prepare(
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

  /** Reports how far a download has come. */
  recordDownload(id: string, downloading: DownloadProgress): void {
    this.preparing.set(id, { downloading });
    this.#events.tell(id);
  }

  /** Reports how far a job's weights are read. */
  recordLoading(id: string, loading: LoadProgress): void {
    this.preparing.set(id, { loading });
    this.#events.tell(id);
  }

  /**
   * Records an event of the engine. Metrics, checkpoints and warnings that a resumed job sends again are dropped.
   *
   * @throws {StorageError} where the disk does not take it
   */
  record(id: string, event: TrainEvent): void {
    this.#change(id, () => recordEvent(this.db, this.#events, id, event));
  }

  /** Records a warning; where the disk does not take it, it is logged, and whoever uses the job's files goes on. */
  warn(id: string, message: string): void {
    try {
      this.record(id, { type: "warning", message });
    } catch (error) {
      if (storageError(error) === null) throw error;
      log.warn("Of job {id}: {message}", { id, message });
    }
  }

  /** Marks a job as running before its first step: rows are tokenised, weights are read. */
  start(id: string): void {
    this.#change(id, () => {
      this.db.prepare(
        `UPDATE jobs SET status = 'running', waiting_for = NULL, started_at = ifnull(started_at, ?) WHERE id = ?`,
      ).run(new Date().toISOString(), id);
    });
  }

  /** Records that a running job is to end; after a crash it does not go on. */
  requestCancel(id: string): void {
    this.#write("UPDATE jobs SET cancel_requested = 1 WHERE id = ?", [id], true);
  }

  /**
   * Ends a job with the event `done`.
   *
   * @param whole why it failed
   * @param bytes size of its folder; unless given it stays as it was recorded
   */
  finish(
    id: string,
    status: "succeeded" | "failed" | "cancelled",
    whole: JobError | null = null,
    bytes: number | null = null,
  ): void {
    const error = whole === null ? null : boundedError(whole);
    this.#change(id, () => {
      this.db.prepare(
        `UPDATE jobs SET status = ?, error = ?, finished_at = ?, bytes = ifnull(?, bytes), tokens_per_second = NULL,
         waiting_for = NULL, seconds_remaining = CASE ?1 WHEN 'succeeded' THEN 0 END WHERE id = ?5`,
      ).run(status, error === null ? null : JSON.stringify(error), new Date().toISOString(), bytes, id);
      this.#events.append(id, "done", {
        status,
        step: this.find(id).progress.step,
        ...(error === null ? {} : { error }),
      });
    }, true);
  }

  /** Records the size of a job's folder. */
  recordBytes(id: string, bytes: number): void {
    this.#write("UPDATE jobs SET bytes = ? WHERE id = ?", [bytes, id]);
  }

  /** Records that the folder of a job that has ended is rid of what only a run needs. */
  recordTidied(id: string): void {
    this.#write("UPDATE jobs SET tidied = 1 WHERE id = ?", [id]);
  }

  /** Deletes a job and its events; its idempotency key is free again. Its folder is {@link deleted} until it is forgotten. */
  delete(id: string): void {
    transaction(this.db, () => {
      this.#events.delete(id);
      this.db.prepare("DELETE FROM datasets WHERE job = ?").run(id);
      this.db.prepare("DELETE FROM jobs WHERE id = ?").run(id);
      this.db.prepare("INSERT INTO deleted_jobs (id) VALUES (?)").run(id);
    }, true);
    this.aside.delete(id);
    this.#events.tell(id);
    try {
      this.#emptyLog();
    } catch (error) {
      // It has gone all the same, and forgetting it empties the log first.
      log.warn("Rows of the deleted job {id} are still in the log of the data base: {error}", { id, error });
    }
  }

  /** Removes a deleted job's rows from the log beside the data base. */
  #emptyLog(): void {
    this.db.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  }

  /** Records that a deleted job's folder is removed. */
  forget(id: string): void {
    this.#emptyLog();
    this.#write("DELETE FROM deleted_jobs WHERE id = ?", [id]);
  }

  /** A job's events after the one with id `after`, 0: from the first; at most `limit`, -1: all of them. */
  events(id: string, after: number, limit = -1): JobEvent[] {
    return this.#events.read(id, after, limit);
  }

  /** Calls `listener` after each change of a job. @returns what ends it */
  subscribe(id: string, listener: () => void): () => void {
    return this.#events.subscribe(id, listener);
  }

  /** Closes the file and releases its lock. */
  close(): void {
    closeDataBase(this.db);
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #change(id: string, change: () => void, lasting = false): void {
    transaction(this.db, change, lasting);
    this.preparing.delete(id);
    this.unwritten.delete(id);
    this.#events.tell(id);
  }

  /** Makes a change of which no subscriber is told. */
  #write(sql: string, values: SQLInputValue[], lasting = false): void {
    transaction(this.db, () => this.db.prepare(sql).run(...values), lasting);
  }
}
