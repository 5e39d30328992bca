/// <reference lib="deno.worker" />
/** The Worker that owns the GPU. WebGPU's waits block the thread they are called on, so nothing else lives here. */
import type { FromWorker, ToWorker } from "./_messages.ts";
import { handlers } from "./handlers.ts";
import { WorkerHost } from "./worker_host.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;
const host = new WorkerHost(handlers, (message: FromWorker) => scope.postMessage(message));

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => host.receive(data);
