/** What the engine tells of a job, in the job's row and among its events. */
import type { DatabaseSync } from "node:sqlite";
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
  switch (event.type) {
    case "status":
      db.prepare(
        `UPDATE jobs SET status = 'running', total_steps = ?, step = ?, started_at = ifnull(started_at, ?) WHERE id = ?`,
      ).run(whole(event.total_steps), whole(event.resumed_from), new Date().toISOString(), id);
      events.append(id, "status", {
        status: "running",
        total_steps: event.total_steps,
        resumed_from: event.resumed_from,
      });
      return;
    case "rows": {
      const { split, rows, shapes } = event;
      const read = { ...json<Job["rows_read"]>("rows_read"), [split]: { rows, shapes } };
      db.prepare("UPDATE jobs SET rows_read = ? WHERE id = ?").run(JSON.stringify(read), id);
      return;
    }
    case "left_out": {
      const { type: _, ...left } = event;
      const others = json<LeftOutOfSplit[]>("left_out").filter(({ split }) => split !== left.split);
      const splits = [...others, left].sort((a, b) => b.split.localeCompare(a.split)); // train first
      db.prepare("UPDATE jobs SET left_out = ? WHERE id = ?").run(JSON.stringify(splits), id);
      return;
    }
    case "plan":
      db.prepare("UPDATE jobs SET plan = ? WHERE id = ?").run(JSON.stringify(event.plan), id);
      return;
    case "progress":
      db.prepare(
        `UPDATE jobs SET step = ?, total_steps = ?, tokens_per_second = ?, seconds_remaining = ? WHERE id = ?`,
      ).run(
        whole(event.step),
        whole(event.total_steps),
        finite(event.tokens_per_second),
        finite(event.seconds_remaining),
        id,
      );
      return;
    case "metrics": {
      const metrics = { ...json<Job["metrics"]>("metrics"), ...event.metrics, step: whole(event.step) };
      db.prepare("UPDATE jobs SET metrics = ?, step = max(step, ?) WHERE id = ?")
        .run(JSON.stringify(metrics), whole(event.step), id);
      // A step's evaluation has other names than its training metrics and is an event of its own.
      const names = Object.keys(event.metrics).join(" ");
      events.append(id, "metrics", { step: event.step, ...event.metrics }, `${event.step} ${names}`);
      return;
    }
    case "checkpoint":
      // The crashes before it have cost nothing that would have to be done over.
      if (events.append(id, "checkpoint", { step: event.step }, `${event.step}`)) {
        db.prepare("UPDATE jobs SET crashes = 0 WHERE id = ?").run(id);
      }
      return;
    case "warning": {
      const message = boundedText(event.message, MOST_CHARACTERS);
      if (!events.append(id, "warning", { message }, message)) return;
      const warnings = withWarning(json<Warnings>("warnings"), message);
      db.prepare("UPDATE jobs SET warnings = ? WHERE id = ?").run(JSON.stringify(warnings), id);
      return;
    }
  }
}
