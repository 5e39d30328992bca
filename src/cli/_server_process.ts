/** The worker as a process of its own, started with the command of `deno task serve`. */
import { fileURLToPath } from "node:url";
import config from "../../deno.json" with { type: "json" };

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

const CHECKOUT = fileURLToPath(new URL("../..", import.meta.url));
/** The service stops within 10 s by its own promise. */
const STOP_MS = 12_000;
const LOG_LINES = 20;

/**
 * Starts a worker on a free port of this machine.
 *
 * @param state folder of its jobs
 */
export function startServer(state: string): ServerProcess {
  const port = freePort();
  const child = new Deno.Command(Deno.execPath(), {
    args: serveArguments(config.tasks.serve),
    cwd: CHECKOUT,
    env: {
      PORT: String(port),
      HOST: "127.0.0.1",
      SIMPO_ROOT: CHECKOUT,
      SIMPO_STATE: state,
      SIMPO_TOKEN: "",
      // Whatever answers: a GPU where there is one.
      SIMPO_DEVICE: Deno.env.get("SIMPO_DEVICE") || "auto",
      // wgpu complains where it is not set.
      XDG_RUNTIME_DIR: Deno.env.get("XDG_RUNTIME_DIR") || state,
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
    ended.abort(new Error(`The worker ended with exit code ${code}:\n${lines.join("\n")}`));
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

/** The arguments of a task's one command, `deno run …`: the permissions stand in deno.json alone. */
export function serveArguments(task: string): string[] {
  const [name, ...args] = task.split(" ");
  if (name !== "deno" || /["'$&|;]/.test(task)) {
    throw new Error(`Task serve is not one plain deno command: ${task}`);
  }
  return args;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
