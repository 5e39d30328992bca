/// <reference lib="deno.worker" />
/** The thread of `json_thread.ts`. */
import { jsonParts } from "./json_parts.ts";
import { type FromReader, readJsonBytes } from "./json_thread.ts";
import { toPlainError } from "./plain_error.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;

scope.onmessage = ({ data }: MessageEvent<Uint8Array<ArrayBuffer>>) => {
  try {
    for (const part of jsonParts(readJsonBytes(data))) post({ part });
    post({ done: true });
  } catch (error) {
    post({ error: toPlainError(error) });
  }
};

function post(message: FromReader): void {
  scope.postMessage(message);
}
