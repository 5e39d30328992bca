/// <reference lib="deno.worker" />
/** An engine's Worker whose device has gone for good. */
import type { FromWorker, ToWorker } from "../../src/engine/_messages.ts";
import { toPlainError } from "../../src/plain_error.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;

scope.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.type !== "call" || data.name !== "device") return;
  const error = toPlainError(new Error("No device."));
  scope.postMessage({ type: "failed", id: data.id, error } satisfies FromWorker);
};
