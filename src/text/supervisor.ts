/// <reference lib="deno.worker" />
/**
 * A thread that may only read, and holds another in which what others wrote is read: permissions are a Web Worker's, a
 * bound of the heap is one of Node's. That one ends without an event when its heap is full; whoever started this one sees
 * it by its pulse.
 */
import { Worker } from "node:worker_threads";
import type { FromSupervisor, ToSupervisor } from "./_messages.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;
let thread: Worker | null = null;

scope.onmessage = async ({ data }: MessageEvent<ToSupervisor>) => {
  if (data === "end") {
    await thread?.terminate();
    return scope.close();
  }
  const { heapMb, ...start } = data;
  thread = new Worker(new URL("./worker.ts", import.meta.url), {
    workerData: start,
    transferList: [start.port as never],
    resourceLimits: { maxOldGenerationSizeMb: heapMb, maxYoungGenerationSizeMb: 64 },
  });
  thread.on("error", (error: Error) => {
    scope.postMessage({ broken: error.message } satisfies FromSupervisor);
  });
};
