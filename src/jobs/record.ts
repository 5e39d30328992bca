/** What the engine tells of a job, in the job's row and among its events. */
import type { DatabaseSync, SQLInputValue } from "node:sqlite";
import type { Job } from "../api/job.ts";
import { boundedText } from "../bounded.ts";
import type { TrainEvent } from "../engine/protocol.ts";
import { MOST_CHARACTERS, type Warnings, withWarning } from "./bounds.ts";
import type { EventLog } from "./event_log.ts";
import { finite, type LeftOutOfSplit, whole } from "./rows.ts";

/** Writes it down, within a transaction. Metrics, checkpoints and warnings that a resumed job sends again are dropped. */
export function recordEvent(db: DatabaseSync, events: EventLog, id: string, event: TrainEvent): void {
  const json = <T>(column: "left_out" | "metrics" | "rows_read" | "warnings"): T => {
    const row = db.prepare(`SELECT ${column} FROM jobs WHERE id = ?`).get(id);
    return JSON.parse(String(row?.[column] ?? null));
  };
  const set = (columns: string, ...values: SQLInputValue[]) =>
    void db.prepare(`UPDATE jobs SET ${columns} WHERE id = ?`).run(...values, id);
  switch (event.type) {
    case "status": {
      const { type: _, ...status } = event;
      const values = [whole(event.total_steps), whole(event.resumed_from), new Date().toISOString()];
      set("status = 'running', total_steps = ?, step = ?, started_at = ifnull(started_at, ?)", ...values);
      return void events.append(id, "status", status);
    }
    case "rows": {
      const { split, rows, shapes } = event;
      const read = { ...json<Job["rows_read"]>("rows_read"), [split]: { rows, shapes } };
      return set("rows_read = ?", JSON.stringify(read));
    }
    case "left_out": {
      const { type: _, ...left } = event;
      const others = json<LeftOutOfSplit[]>("left_out").filter(({ split }) => split !== left.split);
      const splits = [...others, left].sort((a, b) => b.split.localeCompare(a.split)); // train first
      return set("left_out = ?", JSON.stringify(splits));
    }
    case "plan":
      return set("plan = ?", JSON.stringify(event.plan));
    case "progress": {
      const steps = [whole(event.step), whole(event.total_steps)];
      const speed = [finite(event.tokens_per_second), finite(event.seconds_remaining)];
      return set(
        "step = ?, total_steps = ?, tokens_per_second = ?, seconds_remaining = ?",
        ...steps,
        ...speed,
      );
    }
    case "metrics": {
      const metrics = { ...json<Job["metrics"]>("metrics"), ...event.metrics, step: whole(event.step) };
      set("metrics = ?, step = max(step, ?)", JSON.stringify(metrics), whole(event.step));
      // A step's evaluation has other names than its training metrics and is an event of its own.
      const names = Object.keys(event.metrics).join(" ");
      events.append(id, "metrics", { step: event.step, ...event.metrics }, `${event.step} ${names}`);
      return;
    }
    case "checkpoint":
      // The crashes before it have cost nothing that would have to be done over.
      if (events.append(id, "checkpoint", { step: event.step }, `${event.step}`)) set("crashes = 0");
      return;
    case "warning": {
      const message = boundedText(event.message, MOST_CHARACTERS);
      if (!events.append(id, "warning", { message }, message)) return;
      const warnings = withWarning(json<Warnings>("warnings"), message);
      return set("warnings = ?", JSON.stringify(warnings));
    }
  }
}
