/** Commands as processes of their own, with the permissions that the launcher gives them. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { gpuEnvironment } from "../../src/cli/_gpu_environment.ts";
import { commandArguments } from "../../src/cli/_server_process.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import config from "../../deno.json" with { type: "json" };

const checkout = fileURLToPath(new URL("../..", import.meta.url));
const fakeMain = fileURLToPath(new URL("../cli/fake_main.ts", import.meta.url));
const faultyMain = fileURLToPath(new URL("../service/_faulty_main.ts", import.meta.url));

export interface CommandProcess extends AsyncDisposable {
  readonly child: Deno.ChildProcess;
  /** Everything on stdout, at the end. */
  readonly stdout: Promise<string>;
  /** Lines on stderr so far. */
  readonly lines: readonly string[];
  /** Waits for a line on stderr. */
  line(pattern: RegExp): Promise<string>;
  /** The exit code. */
  readonly code: Promise<number>;
}

/**
 * Starts a command with the fake engine.
 *
 * @param stepMs Milliseconds a training step takes
 */
export function startFake(
  root: string,
  stepMs: number,
  command: readonly string[],
  env: Record<string, string> = {},
  stdin?: string,
): CommandProcess {
  const all = { ...settings(root), ...env };
  return start(commandArguments(command, all, [fakeMain, String(stepMs)]), all, stdin);
}

/** Where `script` is, which runs a command in a terminal of its own; null where it is not. */
export const script = Deno.build.os === "linux" && existsSync("/usr/bin/script") ? "/usr/bin/script" : null;

/** Runs a command with the fake engine in a terminal. @returns all that it shows, and its exit code */
export async function runInTerminal(
  root: string,
  command: readonly string[],
): Promise<{ code: number; shown: string }> {
  const env = settings(root);
  const words = [Deno.execPath(), ...commandArguments(command, env, [fakeMain, "1"])];
  const quoted = words.map((word) => `'${word.replaceAll("'", `'\\''`)}'`).join(" ");
  const { code, stdout } = await new Deno.Command(script!, {
    args: ["-qec", quoted, "/dev/null"],
    cwd: checkout,
    env,
    stdin: "null",
    stderr: "inherit",
  }).output();
  return { code, shown: new TextDecoder().decode(stdout) };
}

/** Starts a command as its task does, on the device that there is. */
export async function startReal(
  root: string,
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<CommandProcess> {
  const all = { ...gpuEnvironment(), ...settings(root), SIMPO_DEVICE: await deviceThere(), ...env };
  return start(commandArguments(command, all), all);
}

/** Starts `serve` with an engine whose thread hangs and breaks, as tests/engine/_faulty_worker.ts says. */
export async function startFaulty(root: string, javascriptSeconds: number): Promise<CommandProcess> {
  const all = { ...gpuEnvironment(), ...settings(root), SIMPO_DEVICE: await deviceThere() };
  return start(["run", "--no-prompt", "--allow-all", faultyMain, String(javascriptSeconds)], all);
}

/** Starts a task of deno.json as it stands there, launcher and all: a process group of its own, as in a terminal. */
export async function startTask(
  root: string,
  [task, ...args]: readonly [task: "serve" | "train" | "plan" | "score" | "doctor", ...args: string[]],
  env: Record<string, string> = {},
  stdin?: string,
): Promise<CommandProcess> {
  const [name, ...words] = config.tasks[task].command.split(" ");
  assert.equal(name, "deno");
  const all = { ...gpuEnvironment(), ...settings(root), SIMPO_DEVICE: await deviceThere(), ...env };
  return start([...words, ...args], all, stdin, Deno.build.os !== "windows");
}

let there: Promise<"gpu" | "software"> | undefined;

/** What serve must be told: it takes the software driver only where it is named. */
function deviceThere(): Promise<"gpu" | "software"> {
  there ??= Gpu.open({ device: "auto" }).then((gpu) => {
    gpu.close();
    return gpu.software ? "software" : "gpu";
  });
  return there;
}

function settings(root: string): Record<string, string> {
  return {
    PORT: "0",
    HOST: "127.0.0.1",
    SIMPO_ROOT: root,
    SIMPO_STATE: `${root}/state`,
    // whoever runs the tests may have these set
    SIMPO_CACHE: `${root}/state/hub`,
    SIMPO_HOSTS: "",
    SIMPO_MIN_FREE: "",
    SIMPO_QUOTA: "",
    SIMPO_ALLOWED_HOSTS: "",
    SIMPO_TOKEN: "",
    SIMPO_TOKEN_FILE: "",
    SIMPO_INSECURE: "",
    SIMPO_DEVICE: "auto",
    NO_COLOR: "1",
  };
}

function start(
  args: string[],
  env: Record<string, string>,
  stdin?: string,
  detached = false, // a process group of its own
): CommandProcess {
  const child = new Deno.Command(Deno.execPath(), {
    args,
    cwd: checkout,
    env,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    detached,
  }).spawn();
  const written = stdin === undefined ? Promise.resolve() : new Blob([stdin]).stream().pipeTo(child.stdin);
  const lines: string[] = [];
  let waiting = Promise.withResolvers<void>();
  let ended = false;
  const read = (async () => {
    let rest = "";
    for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) {
      const parts = (rest + text).split("\n");
      rest = parts.pop() ?? "";
      lines.push(...parts);
      waiting.resolve();
      waiting = Promise.withResolvers();
    }
    ended = true;
    waiting.resolve();
  })();
  const stdout = new Response(child.stdout).text();
  const code = Promise.all([child.status, read, stdout, written.catch(() => {})]).then(([{ code }]) => code);
  return {
    child,
    stdout,
    lines,
    code,
    async line(pattern) {
      for (;;) {
        const found = lines.find((line) => pattern.test(line));
        if (found !== undefined) return found;
        if (ended) throw new Error(`No line ${pattern} in:\n${lines.join("\n")}`);
        await waiting.promise;
      }
    },
    async [Symbol.asyncDispose]() {
      try {
        Deno.kill(detached ? -child.pid : child.pid, "SIGKILL");
      } catch {
        // It has ended already.
      }
      await code;
    },
  };
}

/** The address that a server's log names. */
export async function urlOf(server: CommandProcess): Promise<string> {
  return JSON.parse(await server.line(/"Listening on /)).url;
}
