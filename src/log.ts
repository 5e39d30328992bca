/** Logs as JSON lines on stderr: stdout belongs to a command's own output. */
import { configureSync, getLogger, type Logger, type LogRecord } from "@logtape/logtape";
import type { LogLevel } from "./config.ts";

/** Sends every log line from `level` up to stderr. Called once by a command; libraries and tests stay silent. */
export function startLogging(level: LogLevel): void {
  const encoder = new TextEncoder();
  configureSync({
    reset: true,
    // Written at once, so that the last lines before an exit are never lost.
    sinks: { stderr: (record) => void Deno.stderr.writeSync(encoder.encode(`${formatRecord(record)}\n`)) },
    loggers: [
      { category: ["simpo"], lowestLevel: level, sinks: ["stderr"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["stderr"] },
    ],
  });
}

/** The logger of one part: `simpo.http`, `simpo.jobs`, … */
export function logger(part: string): Logger {
  return getLogger(["simpo", part]);
}

/** One line: time, level, logger and message, then the message's values by their names. */
export function formatRecord({ timestamp, level, category, message, properties }: LogRecord): string {
  return JSON.stringify({
    time: new Date(timestamp).toISOString(),
    level,
    logger: category.join("."),
    message: message.map((part) => part instanceof Error ? part.message : String(part)).join(""),
    ...properties,
  }, (_, value) => value instanceof Error ? value.stack ?? value.message : value);
}
