/**
 * `launcher.ts COMMAND …` runs `main.ts COMMAND …` with the permissions of its settings and arguments (`src/permissions.ts`)
 * as a process of its own: Deno cannot take back a part of what a process may do. The tasks start this.
 */
import { join } from "node:path";
import { CHECKOUT, WEBGPU_BACKENDS } from "./src/config.ts";
import { InputError } from "./src/errors.ts";
import { permissionFlags } from "./src/permissions.ts";
import { STOP_SIGNALS } from "./src/signals.ts";
import { toldMistake } from "./src/told_mistake.ts";

/** What is handed on. A terminal's Ctrl-C reaches the command by itself too: the second changes nothing there. */
const handedOn: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? STOP_SIGNALS
  : [...STOP_SIGNALS, "SIGHUP", "SIGQUIT"];

/** Runs a command to its end. @returns its exit code, 128 and the signal's number where a signal ended it */
async function launch([command, ...args]: readonly string[]): Promise<number> {
  const flags = permissionFlags(command, args, Deno.env);
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", ...flags, join(CHECKOUT, "main.ts"), ...Deno.args],
    env: { DENO_WEBGPU_BACKEND: WEBGPU_BACKENDS },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  for (const signal of handedOn) {
    Deno.addSignalListener(signal, () => {
      if (Deno.build.os === "windows") return; // its console has told every process
      try {
        child.kill(signal);
      } catch {
        // It has ended already.
      }
    });
  }
  return (await child.status).code;
}

try {
  Deno.exit(await launch(Deno.args));
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  console.error(toldMistake(error));
  Deno.exit(2);
}
