/** Commands as processes of their own, with the permissions that the launcher gives them. */
import { join } from "node:path";
import type { DoctorReport } from "./doctor.ts";
import { CHECKOUT } from "../config.ts";
import { permissionFlags } from "../permissions.ts";
import { gpuEnvironment } from "./_gpu_environment.ts";
import { ServiceError } from "./_client.ts";

/** The service stops within 10 s by its own promise. */
const STOP_MS = 12_000;
const LOG_LINES = 20;

/** Which device answers, as `main.ts doctor` reports it: a GPU where there is one. @throws Error where none does */
export async function askDoctor(): Promise<NonNullable<DoctorReport["device"]>> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: commandArguments(["doctor", "--json"]),
    cwd: CHECKOUT,
    env: gpuEnvironment(),
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  const report = text.decode(stdout);
  if (report === "") throw new Error(`main.ts doctor failed: ${text.decode(stderr)}`);
  const { device, error } = JSON.parse(report) as DoctorReport;
  if (device === null) throw new Error(`No device answers: ${error}`);
  return device;
}

/** A worker that was started here and is to be stopped here. */
export interface ServerProcess {
  /** Where it listens, without a slash at the end. */
  readonly url: string;
  /** Aborted when the process ends, wanted or not. */
  readonly ended: AbortSignal;
  /** The last lines of its log. */
  log(): string;
  /** Asks it to stop (SIGTERM), and kills it where it has not within its 10 s. */
  stop(): Promise<void>;
}

/**
 * Starts a worker on a free port of this machine.
 *
 * @param state folder of its jobs
 * @param device what `SIMPO_DEVICE` says: serve takes the software driver only where it is named
 * @param through arguments of deno that start `serve` another way than by itself: `deno task` with the launcher
 */
export function startServer(
  state: string,
  device: "gpu" | "software",
  through?: readonly string[],
): ServerProcess {
  const port = freePort();
  const env = {
    ...gpuEnvironment(),
    PORT: String(port),
    HOST: "127.0.0.1",
    SIMPO_ROOT: CHECKOUT,
    SIMPO_STATE: state,
    SIMPO_TOKEN: "",
    SIMPO_TOKEN_FILE: "",
    SIMPO_ALLOWED_HOSTS: "",
    SIMPO_DEVICE: device,
    NO_COLOR: "1",
  };
  const child = new Deno.Command(Deno.execPath(), {
    args: [...through ?? commandArguments(["serve"], env)],
    cwd: CHECKOUT,
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines: string[] = [];
  const keep = async (stream: ReadableStream<Uint8Array>) => {
    for await (
      const text of stream.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
    ) {
      lines.push(...text.split("\n").filter((line) => line !== ""));
      lines.splice(0, lines.length - LOG_LINES);
    }
  };
  const output = Promise.all([keep(child.stdout), keep(child.stderr)]);
  const ended = new AbortController();
  const end = child.status.then(async ({ code }) => {
    await output;
    ended.abort(new ServiceError(`The worker ended with exit code ${code}.`));
  });
  return {
    url: `http://127.0.0.1:${port}`,
    ended: ended.signal,
    log: () => lines.join("\n"),
    async stop() {
      const signal = (name: Deno.Signal) => {
        try {
          child.kill(name);
        } catch {
          // It has ended already.
        }
      };
      signal("SIGTERM");
      const timer = setTimeout(() => signal("SIGKILL"), STOP_MS);
      await end;
      clearTimeout(timer);
    },
  };
}

/**
 * Deno's arguments for a command, as the launcher gives them.
 *
 * @param command its name and arguments
 * @param env variables that the process is given beside this one's
 * @param main what runs the command: `main.ts`, or a test's own with arguments before the command's
 */
export function commandArguments(
  command: readonly string[],
  env: Readonly<Record<string, string>> = {},
  main: readonly string[] = [join(CHECKOUT, "main.ts")],
): string[] {
  const [name, ...args] = command;
  const flags = permissionFlags(name, args, { get: (name) => env[name] ?? Deno.env.get(name) });
  return ["run", ...flags, ...main, ...command];
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
