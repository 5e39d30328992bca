/** The peers of `peers/`, each a process with packages of its own. */
import { fileURLToPath } from "node:url";
import type { Contender } from "./_contest.ts";
import type { Answer, Question, Work } from "./peers/_serve.ts";
import peers from "./peers/deno.json" with { type: "json" };

const onnxruntime = version("onnxruntime-web/webgpu");
const tfjs = version("@tensorflow/tfjs");
const jax = version("@jax-js/jax");

/** Peers by name: a script of `peers/` with its arguments. */
const PEERS = {
  [`${onnxruntime} WebGPU`]: ["onnx.ts"],
  [`${tfjs} WebGPU`]: ["tfjs.ts", "webgpu"],
  [`${jax} WebGPU`]: ["jax.ts", "webgpu"],
  [`${tfjs} WebAssembly`]: ["tfjs.ts", "wasm"],
  [`${jax} WebAssembly`]: ["jax.ts", "wasm"],
} as const satisfies Record<string, readonly string[]>;

function version(name: keyof typeof peers.imports): string {
  return peers.imports[name].replace(/^npm:@?/, "").replace(/^(tensorflow|jax-js)\//, "").replace(
    "/webgpu",
    "",
  );
}

/** Relative to the largest result; a wrong product is off by about 1. */
const LARGEST_ERROR = 1e-3;
const INSTALL_MS = 300_000;

/** A peer's process. */
class Peer {
  readonly name: string;
  readonly #child: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #rest = "";

  constructor(name: string, command: readonly string[]) {
    this.name = name;
    const folder = fileURLToPath(new URL("./peers/", import.meta.url));
    const permissions = ["--no-prompt", "--allow-read", "--allow-env", "--allow-sys"];
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", ...permissions, `--config=${folder}deno.json`, folder + command[0], ...command.slice(1)],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#output = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /**
   * The work as a contender.
   *
   * @returns null where the peer cannot do it here
   * @throws where its result is wrong
   */
  async contender(work: Work): Promise<Contender | null> {
    const first = await this.#ask({ work, repeats: 1 });
    if ("refused" in first) {
      console.error(`${this.name}: ${first.refused.split("\n")[0]}`);
      return null;
    }
    if (!(first.error! < LARGEST_ERROR)) {
      throw new Error(`${this.name}: ${JSON.stringify(work)} is off by ${first.error}.`);
    }
    return {
      time: async (repeats) => {
        const answer = await this.#ask({ work, repeats });
        if ("refused" in answer) throw new Error(`${this.name} ended: ${answer.refused}`);
        return answer.milliseconds;
      },
    };
  }

  async #ask(question: Question): Promise<Answer> {
    const gone = { refused: "it ended: its packages are not installed, or it found no device" };
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, INSTALL_MS));
    try {
      await this.#input.write(new TextEncoder().encode(JSON.stringify(question) + "\n"));
      while (!this.#rest.includes("\n")) {
        const read = await Promise.race([this.#output.read(), late]);
        if (!read) return { refused: `no answer in ${INSTALL_MS / 1000} s` };
        if (read.done) return gone;
        this.#rest += read.value;
      }
    } catch {
      return gone;
    } finally {
      clearTimeout(timer);
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line);
  }

  async stop(): Promise<void> {
    await this.#input.close().catch(() => {});
    try {
      this.#child.kill();
    } catch {
      // it has ended by itself
    }
    await this.#output.cancel();
    await this.#child.status;
  }
}

/** Peers that run side by side, asked in turn. */
export class Peers {
  readonly #peers: readonly Peer[];

  constructor() {
    this.#peers = Object.entries(PEERS).map(([name, command]) => new Peer(name, command));
  }

  /** The work by the peers that can do it. */
  async contenders(work: Work): Promise<Record<string, Contender>> {
    const found: Record<string, Contender> = {};
    for (const peer of this.#peers) {
      const contender = await peer.contender(work);
      if (contender) found[peer.name] = contender;
    }
    return found;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#peers.map((peer) => peer.stop()));
  }
}

export function onWebGpu(name: string): boolean {
  return name.endsWith("WebGPU");
}

export function onWebAssembly(name: string): boolean {
  return name.endsWith("WebAssembly");
}
