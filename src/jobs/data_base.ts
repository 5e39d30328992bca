/** The SQLite file of the jobs: its tables, their versions and its lock. */
import { dirname } from "node:path";
import { DatabaseSync } from "node:sqlite";
import type { DatasetRequest } from "../api/dataset.ts";
import { InputError } from "../errors.ts";
import { logger } from "../log.ts";
import { type LeftOutRow, summarizeLeftOut } from "../preference/left_out.ts";
import { boundedError, NO_WARNINGS, withWarning } from "./bounds.ts";
import { readDataset } from "./given_rows.ts";
import { PRIVATE_FILE } from "../private_files.ts";
import { storageError } from "./storage.ts";

const log = logger("jobs");

/** How a data base comes from each version to the next; its `user_version` says how many of these it has had. */
const migrations: readonly (string | ((db: DatabaseSync) => void))[] = [
  `CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    -- model, data set summaries, preset, settings
    spec TEXT NOT NULL,
    -- the data sets, with the rows that came in the request; loaded only to train
    datasets TEXT NOT NULL,
    step INTEGER NOT NULL DEFAULT 0,
    total_steps INTEGER,
    tokens_per_second REAL,
    seconds_remaining REAL,
    metrics TEXT,
    left_out TEXT NOT NULL DEFAULT '[]',
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    created_at TEXT NOT NULL,
    started_at TEXT,
    finished_at TEXT,
    idempotency_key TEXT UNIQUE,
    request_hash TEXT
  ) STRICT;
  CREATE INDEX jobs_by_status ON jobs (status, number);
  CREATE TABLE events (
    job TEXT NOT NULL,
    id INTEGER NOT NULL,
    type TEXT NOT NULL,
    data TEXT NOT NULL,
    -- what an event that a resumed job sends again has in common with the first; null: never the same
    repeat_key TEXT,
    PRIMARY KEY (job, id),
    UNIQUE (job, repeat_key)
  ) STRICT, WITHOUT ROWID;`,
  // how often in a row the process or the device was lost under the job, without a new checkpoint in between
  "ALTER TABLE jobs ADD COLUMN crashes INTEGER NOT NULL DEFAULT 0;",
  "ALTER TABLE jobs ADD COLUMN plan TEXT;",
  // settings that jobs did not have before
  `UPDATE jobs SET spec = json_insert(spec, '$.settings.quantization', NULL) WHERE json_valid(spec);
  UPDATE jobs SET spec = json_insert(spec, '$.settings.lora.modules_to_save', json('[]'),
    '$.settings.lora.ensure_weight_tying', json('false'))
    WHERE CASE WHEN json_valid(spec) THEN json_type(spec, '$.settings.lora') END = 'object';`,
  readRequests,
  `UPDATE jobs SET spec = json_insert(spec, '$.settings.max_left_out', 1, '$.settings.eval_fraction', 0)
  WHERE json_valid(spec);`,
  `ALTER TABLE jobs ADD COLUMN warnings TEXT NOT NULL DEFAULT '{"count":0,"first":[]}';
  ALTER TABLE jobs ADD COLUMN bytes INTEGER;
  -- whether the folder of a job that has ended has been measured, and rid of what only a run needs
  ALTER TABLE jobs ADD COLUMN tidied INTEGER NOT NULL DEFAULT 0;
  -- The rows that came in a request, apart: a change of a job writes all of its row anew.
  CREATE TABLE datasets (job TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;
  INSERT INTO datasets SELECT id, datasets FROM jobs;
  ALTER TABLE jobs DROP COLUMN datasets;
  -- jobs that have gone and whose folders may not have
  CREATE TABLE deleted_jobs (id TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
  UPDATE jobs SET spec = json_insert(spec, '$.settings.keep_checkpoints', 2) WHERE json_valid(spec);`,
  boundLists,
  `ALTER TABLE jobs ADD COLUMN rows_read TEXT NOT NULL DEFAULT '{"train":null,"eval":null}';`,
  // what a job waits for whose files or whose row could not be written
  "ALTER TABLE jobs ADD COLUMN waiting_for TEXT;",
];

/** Rows left out and warnings were kept one by one, however many, and errors with the whole of a refused value. */
function boundLists(db: DatabaseSync): void {
  const update = db.prepare("UPDATE jobs SET left_out = ?, warnings = ?, error = ? WHERE id = ?");
  const warnings = db.prepare("SELECT data FROM events WHERE job = ? AND type = 'warning' ORDER BY id");
  eachReadable(db, "SELECT id, left_out, error FROM jobs", ({ id, left_out, error }) => {
    const rows: (LeftOutRow & { split: "train" | "eval" })[] = JSON.parse(left_out!);
    const splits = (["train", "eval"] as const).map((split) => ({
      split,
      ...summarizeLeftOut(rows.filter((row) => row.split === split)),
    }));
    const said = warnings.all(id!).map(({ data }) => JSON.parse(String(data)).message);
    update.run(
      JSON.stringify(splits.filter(({ count }) => count > 0)),
      JSON.stringify(said.reduce(withWarning, NO_WARNINGS)),
      error === null ? null : JSON.stringify(boundedError(JSON.parse(error!))),
      id!,
    );
  });
}

/** What the rows of the methods were that there were then. */
const ROWS_OF = { simpo: "preference", sft: "sft" } as const;

/** Rows that came with a request were kept as they were sent, and are kept as they were read. */
function readRequests(db: DatabaseSync): void {
  const update = db.prepare("UPDATE jobs SET datasets = ? WHERE id = ?");
  eachReadable(db, "SELECT id, spec, datasets FROM jobs", ({ id, spec, datasets }) => {
    const kind = ROWS_OF[JSON.parse(spec!).settings.method.type as keyof typeof ROWS_OF];
    const { dataset, eval_dataset } = JSON.parse(datasets!);
    const read = (rows: DatasetRequest | null) => rows && readDataset(rows, kind, 1);
    update.run(JSON.stringify({ dataset: read(dataset), eval_dataset: read(eval_dataset) }), id!);
  });
}

/** Changes the jobs whose rows can be read. The others stay as they are, for the store to set aside. */
function eachReadable(
  db: DatabaseSync,
  sql: string,
  change: (row: Record<string, string | null>) => void,
): void {
  for (const row of db.prepare(sql).all()) {
    try {
      change(row as Record<string, string | null>);
    } catch (error) {
      if (storageError(error) !== null) throw error;
      log.error("Job {id} of an earlier version cannot be read: {error}", { id: row["id"], error });
    }
  }
}

/**
 * Opens the file, which is made where it is missing, and brings its tables to this version.
 *
 * @throws {InputError} where another process has it open, or a newer version wrote it
 */
export function openDataBase(path: string): DatabaseSync {
  // SQLite gives its log beside it the same mode.
  const file = path === ":memory:"
    ? null
    : Deno.openSync(path, { write: true, create: true, mode: PRIVATE_FILE });
  const db = new DatabaseSync(path);
  try {
    // A power cut may take a file that has nothing in it: the first change that must last has it flushed.
    const synchronous = file?.statSync().size === 0 ? "OFF" : "NORMAL";
    // The lock is the process's own: it goes with it, kill -9 included.
    // What is deleted is overwritten.
    db.exec(
      `PRAGMA locking_mode = EXCLUSIVE; PRAGMA synchronous = ${synchronous}; PRAGMA journal_mode = WAL;
      PRAGMA secure_delete = ON;`,
    );
    const version = Number(db.prepare("PRAGMA user_version").get()?.["user_version"]);
    if (version > migrations.length) {
      throw new InputError(
        `SIMPO_STATE holds jobs of a newer version (${version}) of this worker: give another folder.`,
        { path: ["SIMPO_STATE"], value: path },
      );
    }
    if (version < migrations.length) {
      inTransaction(db, synchronous, () => {
        for (const migration of migrations.slice(version)) {
          if (typeof migration === "string") db.exec(migration);
          else migration(db);
        }
        db.exec(`PRAGMA user_version = ${migrations.length};`);
      });
    }
    // Takes the lock now rather than at the first job.
    inTransaction(db, synchronous, () => db.exec("UPDATE jobs SET status = status WHERE 0"));
    if (file !== null) files.set(db, { file, path, flushed: false });
    return db;
  } catch (error) {
    db.close();
    file?.close();
    if (!(error instanceof Error) || !error.message.includes("database is locked")) throw error;
    throw new InputError(
      "SIMPO_STATE is in use by another worker, or its jobs.sqlite by another program: stop it, or give another folder.",
      { path: ["SIMPO_STATE"], value: path, accepted: "a folder that no other worker uses" },
    );
  }
}

/** The files of open data bases. One that is opened and closed a second time would take SQLite's lock with it. */
const files = new WeakMap<
  DatabaseSync,
  { readonly file: Deno.FsFile; readonly path: string; flushed: boolean }
>();

/** Closes what {@link openDataBase} has opened. */
export function closeDataBase(db: DatabaseSync): void {
  db.close();
  files.get(db)?.file.close();
}

/** A data base whose file, or its name in the folder, no change that must last has flushed yet. */
function flush(db: DatabaseSync): void {
  const found = files.get(db);
  if (found === undefined || found.flushed) return;
  found.file.syncSync();
  syncFolder(dirname(found.path));
  found.flushed = true;
}

/**
 * Makes a change whole or not at all.
 *
 * @param lasting whether a power cut after it must not lose it: the disk has it when this returns
 * @throws {StorageError} where the disk does not take it
 */
export function transaction(db: DatabaseSync, change: () => void, lasting = false): void {
  // Metrics and progress reach the disk with the next change that must last: a commit of theirs waits for nothing.
  inTransaction(db, lasting ? "FULL" : "NORMAL", change);
}

function inTransaction(db: DatabaseSync, synchronous: "OFF" | "NORMAL" | "FULL", change: () => void): void {
  try {
    rollBack(db); // one before it that could not even be undone
    if (synchronous === "FULL") flush(db);
    db.exec(`PRAGMA synchronous = ${synchronous}; BEGIN IMMEDIATE`);
    change();
    db.exec("COMMIT");
  } catch (error) {
    try {
      rollBack(db);
    } catch {
      // the first error says what happened
    }
    throw storageError(error) ?? error;
  }
}

/** SQLite has rolled back by itself where the disk is full. */
function rollBack(db: DatabaseSync): void {
  if (db.isTransaction) db.exec("ROLLBACK");
}

/** A folder's own entries outlive a power cut. Where the folder above was made too, it is flushed as far as it may be read. */
function syncFolder(path: string): void {
  for (const folder of [path, dirname(path)]) {
    try {
      using file = Deno.openSync(folder);
      file.syncSync();
    } catch (error) {
      // Not every system opens folders, and the one above may be closed to this process.
      if (folder === path && Deno.build.os !== "windows") throw error;
    }
  }
}
