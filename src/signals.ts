/** Signals that ask a process to stop. Windows has one of them; its console sends it to every process itself. */
export const STOP_SIGNALS: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? ["SIGINT"]
  : ["SIGINT", "SIGTERM"];
