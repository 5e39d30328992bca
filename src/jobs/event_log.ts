/** The events of the jobs in their order, and who subscribes to them. */
import type { DatabaseSync } from "node:sqlite";
import type { JobEvent } from "./job.ts";
import { readRows, type Row } from "./rows.ts";

/** The events of all jobs in a data base of {@link openDataBase}; the store changes jobs and events in one transaction. */
export class EventLog {
  readonly #listeners = new Map<string, Set<() => void>>();

  constructor(private readonly db: DatabaseSync) {}

  /**
   * Adds an event to a job's.
   *
   * @param repeated what it has in common with one that a resumed job sends again; unless given it never is the same
   * @returns whether the event is new
   */
  append(id: string, type: JobEvent["type"], data: Record<string, unknown>, repeated?: string): boolean {
    const { changes } = this.db.prepare(
      `INSERT INTO events (job, id, type, data, repeat_key)
       VALUES (?1, (SELECT ifnull(max(id), 0) + 1 FROM events WHERE job = ?1 AND id < 1 << 53), ?2, ?3, ?4)
       ON CONFLICT (job, repeat_key) DO NOTHING`,
    ).run(id, type, JSON.stringify(data), repeated === undefined ? null : `${type} ${repeated}`);
    return changes > 0;
  }

  /** A job's events after the one with id `after`, 0: from the first; at most `limit`, -1: all of them. */
  read(id: string, after: number, limit: number): JobEvent[] {
    const sql = "SELECT id, type, data FROM events WHERE job = ? AND id > ? ORDER BY id LIMIT ?";
    return readRows(this.db, sql, id, after, limit).map((row) => ({
      id: Number(row["id"]),
      type: String(row["type"]) as JobEvent["type"],
      data: dataOf(row),
    }));
  }

  /** Deletes all of a job's. */
  delete(id: string): void {
    this.db.prepare("DELETE FROM events WHERE job = ?").run(id);
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

  /** Calls the listeners of a job that has changed. */
  tell(id: string): void {
    for (const listener of this.#listeners.get(id) ?? []) listener();
  }
}

/** An event that cannot be read keeps its place: those behind it are not lost over it. */
function dataOf({ data }: Row): Record<string, unknown> {
  try {
    return JSON.parse(String(data));
  } catch (error) {
    return { unreadable: (error as Error).message };
  }
}
