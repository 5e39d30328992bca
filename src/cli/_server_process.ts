/** The worker as a process of its own, started with the command of `deno task serve`. */
import { fileURLToPath } from "node:url";
import type { DoctorReport } from "./doctor.ts";
import { gpuEnvironment } from "./_gpu_environment.ts";
import { ServiceError } from "./_client.ts";
import config from "../../deno.json" with { type: "json" };

const CHECKOUT = fileURLToPath(new URL("../..", import.meta.url));
/** The service stops within 10 s by its own promise. */
const STOP_MS = 12_000;
const LOG_LINES = 20;

/** Which device answers, as `main.ts doctor` reports it: a GPU where there is one. @throws Error where none does */
export async function askDoctor(): Promise<NonNullable<DoctorReport["device"]>> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...denoArguments(config.tasks.doctor), "--json"],
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
 */
export function startServer(state: string, device: "gpu" | "software"): ServerProcess {
  const port = freePort();
  const child = new Deno.Command(Deno.execPath(), {
    args: denoArguments(config.tasks.serve),
    cwd: CHECKOUT,
    env: {
      ...gpuEnvironment(),
      PORT: String(port),
      HOST: "127.0.0.1",
      SIMPO_ROOT: CHECKOUT,
      SIMPO_STATE: state,
      SIMPO_TOKEN: "",
      SIMPO_DEVICE: device,
      NO_COLOR: "1",
    },
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

/** The arguments of a task's one command, `NAME=value deno run …`: the permissions stand in deno.json alone. */
export function denoArguments(task: string): string[] {
  const [name, ...args] = task.replace(/^(\w+=\S+ )+/, "").split(" ");
  if (name !== "deno" || /["'$&|;]/.test(task)) {
    throw new Error(`This task is not one plain deno command: ${task}`);
  }
  return args;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
