/** Logs as JSON lines on stderr: stdout belongs to a command's own output. */
import { configureSync, getJsonLinesFormatter, getLogger, type Logger } from "@logtape/logtape";
import type { LogLevel } from "./config.ts";

/** Sends every log line from `level` up to stderr. Called once by a command; libraries and tests stay silent. */
export function startLogging(level: LogLevel): void {
  const format = getJsonLinesFormatter();
  const encoder = new TextEncoder();
  configureSync({
    reset: true,
    // Written at once, so that the last lines before an exit are never lost.
    sinks: { stderr: (record) => void Deno.stderr.writeSync(encoder.encode(format(record))) },
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
