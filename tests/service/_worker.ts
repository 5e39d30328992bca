/** A worker as a real process over a folder with a tiny model, and what a client asks of it. */
import { join } from "node:path";
import { readServerSentEvents } from "../../src/cli/_sse.ts";
import { type CommandProcess, startFaulty, startReal, urlOf } from "../helpers/process.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

export interface Answer {
  readonly status: number;
  // deno-lint-ignore no-explicit-any
  readonly body: any;
}

/** An event of a job with its data read. */
export interface JobEvent {
  readonly id: number;
  readonly type: string;
  // deno-lint-ignore no-explicit-any
  readonly data: any;
}

/** Makes a root with `models/tiny`. */
export async function makeRealRoot(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "simpo-" });
  await writeTinyModel(join(path, "models", "tiny"));
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

export class Worker implements AsyncDisposable {
  readonly #process: CommandProcess;

  private constructor(process: CommandProcess, readonly url: string) {
    this.#process = process;
  }

  /** Starts a server; it listens, and its device may still be starting. */
  static async start(root: string, env: Record<string, string> = {}): Promise<Worker> {
    const process = await startReal(root, ["serve"], env);
    return new Worker(process, await urlOf(process));
  }

  /** The process's id. */
  get pid(): number {
    return this.#process.child.pid;
  }

  /** Starts a server whose engine hangs and breaks, as {@link startFaulty} says. */
  static async startFaulty(root: string, javascriptSeconds: number): Promise<Worker> {
    const process = await startFaulty(root, javascriptSeconds);
    return new Worker(process, await urlOf(process));
  }

  async get(path: string, headers: Record<string, string> = {}): Promise<Answer> {
    return await read(await fetch(this.url + path, { headers }));
  }

  async post(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    return await read(
      await fetch(this.url + path, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
    );
  }

  /** A job's events after one, until its end or until the connection breaks. */
  async *events(id: string, after: number): AsyncGenerator<JobEvent> {
    try {
      const response = await fetch(`${this.url}/train/${id}/events`, {
        headers: { "last-event-id": `${after}` },
      });
      if (response.body === null) return; // the job has ended, and nothing came after
      for await (const { id, event, data } of readServerSentEvents(response.body)) {
        yield { id: Number(id), type: event, data: JSON.parse(data) };
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the process has gone
    }
  }

  /** MiB of memory that the process has. */
  async memory(): Promise<number> {
    const { stdout } = await new Deno.Command("ps", {
      args: ["-o", "rss=", "-p", `${this.#process.child.pid}`],
    })
      .output();
    return Math.round(Number(new TextDecoder().decode(stdout)) / 1024);
  }

  /** Ends the process. @returns its exit code */
  async end(signal: Deno.Signal): Promise<number> {
    this.#process.child.kill(signal);
    return await this.#process.code;
  }

  /** @param last how many of the last lines; all unless given */
  log(last = Infinity): string {
    return this.#process.lines.slice(-last).join("\n");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
  }
}

async function read(response: Response): Promise<Answer> {
  const text = await response.text();
  const json = /[/+]json$/.test(response.headers.get("content-type") ?? "") && text !== "";
  return { status: response.status, body: json ? JSON.parse(text) : text };
}
