/// <reference lib="deno.worker" />
/**
 * The engine's Worker with calls that hang and break it: what a request's `model` says, by the name of its folder. Jobs
 * train as they do, and those of other names score as they do.
 */
import { basename } from "node:path";
import type { FromWorker, ToWorker } from "../../src/engine/_messages.ts";
import { handlers } from "../../src/engine/handlers.ts";
import type { CallName, Calls } from "../../src/engine/protocol.ts";
import { type Handler, type RunningCall, WorkerHost } from "../../src/engine/worker_host.ts";

/** Holds the thread for longer than the tests let JavaScript hold it. */
function hold(): void {
  for (const start = performance.now(); performance.now() - start < 1800;);
}

/** What befalls the thread. */
const FAULTS: Readonly<Record<string, (host: WorkerHost) => unknown>> = {
  "slow-javascript": hold,
  "slow-device": async (host) => (await host.device()).gpu.during("device", hold),
  "slow-compiling": async (host) => (await host.device()).gpu.during("compiling", hold),
  "slow-weights": async (host) => (await host.device()).gpu.during("weights", hold),
  "endless-loop": () => {
    for (;;);
  },
  "endless-regex": () => /^(a+)+$/.test(`${"a".repeat(60)}b`),
  "uncaught": () => {
    setTimeout(() => {
      throw new Error("test");
    }, 0);
    return new Promise(() => {});
  },
  "never-done": () => new Promise(() => {}),
};

/** What befalls it as it loads weights ahead of a score. */
const LOADING: typeof FAULTS = { "endless-loading": FAULTS["endless-loop"]! };

const scope = self as unknown as DedicatedWorkerGlobalScope;

function faulty<Name extends "load" | "score_tokens" | "train">(name: Name): Handler<Name> {
  return (async (host: WorkerHost, request: Calls[Name]["request"], call: RunningCall<CallName>) => {
    const fault = (name === "load" ? LOADING : FAULTS)[basename(request.model)];
    if (fault === undefined) {
      return await (handlers[name] as (...args: unknown[]) => unknown)(host, request, call);
    }
    if (name === "train") return await fault(host);
    const { promise, resolve } = Promise.withResolvers<null>();
    host.scheduler.add(
      call.id,
      async function* () {
        await fault(host);
        resolve(null);
        yield;
      }(),
    );
    return await promise;
  }) as unknown as Handler<Name>;
}

const host = new WorkerHost(
  { ...handlers, load: faulty("load"), score_tokens: faulty("score_tokens"), train: faulty("train") },
  (message: FromWorker) => scope.postMessage(message),
);

scope.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  await host.receive(data);
  if (data.type === "close") scope.close();
};
