/**
 * `launcher.ts COMMAND …` runs `main.ts COMMAND …` with the permissions of its settings and arguments (`src/permissions.ts`)
 * as a process of its own: Deno cannot take back a part of what a process may do. The tasks start this.
 */
import { join } from "node:path";
import { CHECKOUT, WEBGPU_BACKENDS } from "./src/config.ts";
import { InputError } from "./src/errors.ts";
import { permissionFlags } from "./src/permissions.ts";
import { STOP_SIGNALS } from "./src/signals.ts";

/** Handed on to the command, which a terminal's Ctrl-C reaches by itself too: there the second changes nothing. */
const handedOn: readonly Deno.Signal[] = Deno.build.os === "windows"
  ? STOP_SIGNALS
  : [...STOP_SIGNALS, "SIGHUP", "SIGQUIT"];

/** Runs a command to its end. @returns its exit code, 128 and the signal's number where a signal ended it */
async function launch([command, ...args]: readonly string[]): Promise<number> {
  const flags = permissionFlags(command, args, Deno.env);
  await fetchPackages();
  const process = new Deno.Command(Deno.execPath(), {
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
        process.kill(signal);
      } catch {
        // It has ended already.
      }
    });
  }
  return (await process.status).code;
}

/**
 * Fetches packages of deno.lock that are not there: the command may not. Takes 10 ms where all are; where one cannot be
 * fetched deno says why, and the command goes on as far as it comes without.
 */
async function fetchPackages(): Promise<void> {
  await new Deno.Command(Deno.execPath(), {
    args: ["install", "--frozen"],
    cwd: CHECKOUT,
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
  }).spawn().status;
}

try {
  Deno.exit(await launch(Deno.args));
} catch (error) {
  if (!(error instanceof InputError)) throw error;
  console.error(error.message);
  Deno.exit(2);
}
