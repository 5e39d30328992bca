/** A service around a fake engine, in a folder of its own. */
import type { OpenAPIHono } from "@hono/zod-openapi";
import { join } from "node:path";
import { createApp } from "../../routes/app.ts";
import type { Service } from "../../routes/service_context.ts";
import type { Engine } from "../../src/engine/protocol.ts";
import type { Hub } from "../../src/hub/hub.ts";
import type { DiskLimits } from "../../src/jobs/disk.ts";
import { JobRunner } from "../../src/jobs/runner.ts";
import { JobStore } from "../../src/jobs/store.ts";
import { FakeEngine, type FakeOptions } from "./fake_engine.ts";
import { writeTinyModel } from "./tiny_model.ts";

export interface TestService extends AsyncDisposable {
  readonly app: OpenAPIHono;
  readonly engine: FakeEngine;
  readonly service: Service;
  readonly root: string;
  stop(): Promise<void>;
  /** Sends JSON and reads JSON. */
  post(path: string, body: unknown, headers?: Record<string, string>): Promise<Answer>;
  get(path: string, headers?: Record<string, string>): Promise<Answer>;
  /** Waits until a job has a status. */
  until(id: string, ...statuses: string[]): Promise<void>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  // deno-lint-ignore no-explicit-any
  readonly body: any;
}

/** Makes a root with a model `model`, an adapter `adapter` and rows `rows.jsonl`, and the service over it. */
export async function testService(
  options: FakeOptions & {
    token?: string | string[];
    host?: string;
    allowedHosts?: string[];
    maxBodyBytes?: number;
    queue?: number;
    engine?: Promise<Engine>;
    root?: string;
    hub?: Hub;
    limits?: DiskLimits;
  } = {},
): Promise<TestService> {
  const root = options.root ?? await makeRoot();
  const config = {
    root,
    state: join(root, "state"),
    cache: join(root, "state", "hub"),
    host: options.host ?? "127.0.0.1",
    allowedHosts: options.allowedHosts ?? [],
    tokens: [options.token ?? []].flat(),
    maxBodyBytes: options.maxBodyBytes ?? 1 << 20,
    ...(options.queue !== undefined && { queue: options.queue }),
  };
  await Deno.mkdir(config.state, { recursive: true });
  const engine = new FakeEngine(options);
  const promise = options.engine ?? Promise.resolve(engine);
  const store = new JobStore(join(config.state, "jobs.sqlite"));
  const hub = options.hub === undefined ? {} : { hub: options.hub };
  const runner = new JobRunner({
    store,
    ...hub,
    root,
    state: config.state,
    cache: config.cache,
    engine: promise,
    limits: options.limits ?? {},
    pollMs: 5,
  });
  const stopping = new AbortController();
  const service: Service = {
    config,
    store,
    ...hub,
    runner,
    engine: promise,
    stopping: stopping.signal,
    exportMerged: async (_model, _adapter, out) => {
      await Deno.mkdir(out);
      await Deno.writeTextFile(join(out, "model.safetensors"), "merged");
    },
  };
  const app = createApp(service);
  runner.start();
  const send = async (path: string, init?: RequestInit): Promise<Answer> => {
    const response = await app.request(path, init);
    const text = await response.text();
    const json = /[/+]json$/.test(response.headers.get("content-type") ?? "") && text !== "";
    return { status: response.status, headers: response.headers, body: json ? JSON.parse(text) : text };
  };
  let stopped = false;
  const stop = async () => {
    if (stopped) return;
    stopped = true;
    stopping.abort();
    const runnerStopped = runner.stop();
    await engine.stop();
    await runnerStopped;
    store.close();
  };
  return {
    app,
    engine,
    service,
    root,
    stop,
    post: (path, body, headers = {}) =>
      send(path, {
        method: "POST",
        body: typeof body === "string" ? body : JSON.stringify(body),
        headers: { "content-type": "application/json", ...headers },
      }),
    get: (path, headers = {}) => send(path, { headers }),
    until: async (id, ...statuses) => {
      while (!statuses.includes(store.get(id)!.status)) {
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    },
    async [Symbol.asyncDispose]() {
      await stop();
      if (options.root === undefined) await Deno.remove(root, { recursive: true });
    },
  };
}

export async function makeRoot(): Promise<string> {
  const root = await Deno.makeTempDir();
  await writeTinyModel(join(root, "model"));
  await Deno.mkdir(join(root, "adapter"));
  await Deno.writeTextFile(join(root, "adapter", "config.json"), "{}");
  await Deno.writeTextFile(join(root, "rows.jsonl"), "");
  return root;
}

/** A promise that a test opens by hand. */
export function gate(): { readonly opened: Promise<void>; open(): void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { opened: promise, open: resolve };
}
