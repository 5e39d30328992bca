/** The jobs of a data base, as they are read. */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import type { Job } from "../api/job.ts";
import { boundedText } from "../bounded.ts";
import { InputError } from "../errors.ts";
import { logger } from "../log.ts";
import { MOST_CHARACTERS } from "./bounds.ts";
import type { DatasetSpec } from "./given_rows.ts";
import { conflict } from "./job.ts";
import { JOB_COLUMNS, readRows, type Row, toJob } from "./rows.ts";
import { storageError } from "./storage.ts";

const log = logger("jobs");

/**
 * The jobs of one data base. A row that is damaged sets its own job aside and keeps no other job from being read.
 *
 * {@link JobStore} changes them.
 */
export class StoredJobs {
  /** How far running jobs have loaded or downloaded; of no use after the process, so not in the data base. */
  protected readonly preparing = new Map<string, Partial<Pick<Job, "loading" | "downloading">>>();
  /** What jobs wait for whose waiting could not be written. */
  protected readonly unwritten = new Map<string, string>();
  /** Why rows cannot be read, by the job's id. A job is set aside when its row is read. */
  protected readonly aside = new Map<string, string>();

  constructor(protected readonly db: DatabaseSync) {}

  /** Whether a job came with this idempotency key. */
  hasKey(key: string): boolean {
    return this.withKey(key) !== undefined;
  }

  /** `id` and `request_hash` of the job that came with this idempotency key. */
  protected withKey(key: string | null): Row | undefined {
    return readRows(this.db, "SELECT id, request_hash FROM jobs WHERE idempotency_key = ?", key)[0];
  }

  /**
   * A job as it stands; undefined where there is none of this id.
   *
   * @throws {InputError} where its row cannot be read
   */
  get(id: string): Job | undefined {
    const job = this.read(id);
    const why = this.aside.get(id);
    if (job !== undefined || why === undefined) return job;
    const message = `Job ${id} cannot be read from the data base and was set aside: ${why}.`;
    throw conflict(message, "another job; DELETE removes this one", id);
  }

  /** A job as it stands. @throws {InputError} with status 404 where there is none of this id, or as {@link get} */
  find(id: string): Job {
    const job = this.get(id);
    if (job !== undefined) return job;
    throw new InputError(`There is no job ${JSON.stringify(id)}.`, {
      path: ["id"],
      value: id,
      accepted: "the id of a job, as GET /train lists them",
      status: 404,
    });
  }

  /** Newest first, without those that cannot be read; `before` is the number of the last job of the page before. */
  list(limit: number, before?: number): Job[] {
    const jobs: Job[] = [];
    for (let from = before ?? null; jobs.length < limit;) {
      const left = limit - jobs.length;
      const rows = this.#rowsOf("?1 IS NULL OR number < ?1 ORDER BY number DESC LIMIT ?2", [from, left]);
      if (rows.length === 0) break;
      from = Number(rows.at(-1)!["number"]);
      jobs.push(...rows.flatMap(({ id }) => this.read(String(id)) ?? []));
    }
    return jobs;
  }

  /** Whether there is a job of this id that cannot be read. */
  isSetAside(id: string): boolean {
    this.read(id);
    return this.aside.has(id);
  }

  /** Ids of the jobs that were set aside, and why. */
  get setAside(): ReadonlyMap<string, string> {
    return this.aside;
  }

  /** A job's place among all that ever were; undefined where there is none of this id. */
  numberOf(id: string): number | undefined {
    const [row] = readRows(this.db, "SELECT number FROM jobs WHERE id = ?", id);
    return row && Number(row["number"]);
  }

  /**
   * The data sets of a job, with the rows that came in its request.
   *
   * @throws {InputError} where they are not as they were written
   */
  datasets(id: string): { dataset: DatasetSpec; eval_dataset: DatasetSpec | null } {
    const [row] = readRows(this.db, "SELECT data FROM datasets WHERE job = ?", id);
    try {
      if (row === undefined) throw new TypeError("they have gone");
      const { dataset, eval_dataset } = JSON.parse(String(row["data"]));
      if (dataset && typeof dataset === "object" && typeof eval_dataset === "object") {
        return { dataset, eval_dataset };
      }
      throw new TypeError("they are something else");
    } catch (error) {
      const why = (error as Error).message;
      throw new InputError(`The rows that job ${id} was given cannot be read from the data base: ${why}.`, {
        path: ["dataset"],
        accepted: "a new job with the same request",
      });
    }
  }

  /** The job that waits longest for its turn. */
  nextQueued(): Job | undefined {
    for (const id of this.idsOf("queued")) {
      if (this.unwritten.has(id)) continue;
      const job = this.read(id);
      if (job !== undefined) return job;
    }
  }

  /** Jobs that wait until the disk takes what they write. */
  waiting(): string[] {
    return [...new Set([...this.idsOf("waiting_for_space"), ...this.unwritten.keys()])];
  }

  /** Jobs that have ended and whose folders may still hold what only a run needs. */
  untidied(): string[] {
    return this.#ids(
      "SELECT id FROM jobs WHERE status IN ('succeeded', 'failed', 'cancelled') AND tidied = 0",
    );
  }

  /** Jobs that wait or run and begin with what another job learned. */
  dependents(id: string): string[] {
    return this.#ids(
      `SELECT id FROM jobs WHERE status IN ('queued', 'running', 'waiting_for_space')
       AND CASE WHEN json_valid(spec) THEN json_extract(spec, '$.settings.lora.init_adapter') END = ? ORDER BY number`,
      id,
    );
  }

  /** Deleted jobs whose folders may still be there. */
  deleted(): string[] {
    return this.#ids("SELECT id FROM deleted_jobs");
  }

  /** Bytes of all jobs' folders as they were last measured, and of the data base. */
  bytes(): number {
    const [row] = readRows(
      this.db,
      `SELECT (SELECT total(bytes) FROM jobs) + page_count * page_size AS bytes
       FROM pragma_page_count(), pragma_page_size()`,
    );
    return Number(row!["bytes"]);
  }

  /** Ids of the jobs with a status, in the order of their places; of those too that cannot be read further. */
  protected idsOf(status: Job["status"]): string[] {
    const isOther = (id: string) => (this.read(id)?.status ?? status) !== status;
    return this.#rowsOf("status = ?1 ORDER BY number", [status], isOther).map(({ id }) => String(id));
  }

  /**
   * Ids and numbers of the jobs of a condition. Where SQLite cannot scan the table, the index of ids gives them: each row
   * is then read by itself, and a damaged one keeps no other from being read.
   */
  #rowsOf(where: string, values: SQLInputValue[], isOther = (_id: string) => false): Row[] {
    try {
      return readRows(this.db, `SELECT id, number FROM jobs WHERE ${where}`, ...values);
    } catch (error) {
      if (storageError(error) === null) throw error;
      const condition = where.replace("status = ?1", "?1 NOT NULL");
      const sql = `SELECT id, number FROM jobs INDEXED BY sqlite_autoindex_jobs_1 WHERE ${condition}`;
      return readRows(this.db, sql, ...values).filter(({ id }) => !isOther(String(id)));
    }
  }

  #ids(sql: string, ...values: SQLInputValue[]): string[] {
    return readRows(this.db, sql, ...values).map(({ id }) => String(id));
  }

  /** The job of an id; undefined where there is none, or its row cannot be read, which is logged once. */
  protected read(id: string): Job | undefined {
    try {
      const [row] = readRows(this.db, `SELECT ${JOB_COLUMNS} FROM jobs WHERE id = ?`, id);
      const job = row && this.#toJob(row);
      this.aside.delete(id);
      return job;
    } catch (error) {
      // From the index alone, as the row cannot be read.
      if (readRows(this.db, "SELECT 1 FROM jobs WHERE id = ?", id).length === 0) throw error;
      const why = boundedText((error as Error).message, MOST_CHARACTERS);
      if (!this.aside.has(id)) log.error("Job {id} cannot be read and is set aside: {why}", { id, why });
      this.aside.set(id, why);
    }
  }

  #toJob(row: Row): Job {
    const job = toJob(row);
    const { loading = null, downloading = null } = this.preparing.get(job.id) ?? {};
    const waiting_for = this.unwritten.get(job.id);
    const waits = waiting_for === undefined ? {} : { status: "waiting_for_space" as const, waiting_for };
    return { ...job, loading, downloading, ...waits };
  }
}
