import { listening } from "../abort.ts";
import type { FloatDtype } from "../model/dtype.ts";
import { fromPlainError, type PlainError } from "../plain_error.ts";

/** What `merge_worker.ts` is asked for: the arguments of `exportMerged`. */
export interface MergeRequest {
  readonly model: string;
  readonly adapter: string;
  readonly out: string;
  readonly dtype: FloatDtype | undefined;
}

/**
 * Writes a model with an adapter merged in, as `exportMerged` of `src/model/export.ts` does, on a thread of its own that
 * ends with it: merging a large model is minutes of arithmetic, and the main thread answers HTTP.
 *
 * @param model the base model's folder
 * @param adapter folder of the PEFT files
 * @param out an empty or missing folder
 * @param signal ends it; what it has written stays in `out`
 * @param dtype the type of its weights; each one's own in the base model's files unless given
 * @throws {InputError} where either cannot be read, they do not fit, or the type cannot hold a weight
 * @throws the signal's reason
 */
export async function mergeAside(
  model: string,
  adapter: string,
  out: string,
  signal?: AbortSignal,
  dtype?: FloatDtype,
): Promise<void> {
  signal?.throwIfAborted();
  const worker = new Worker(new URL("./merge_worker.ts", import.meta.url), { type: "module", name: "merge" });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  worker.onmessage = ({ data }: MessageEvent<PlainError | null>) => {
    if (data === null) resolve();
    else reject(fromPlainError(data));
  };
  worker.onerror = (event) => {
    event.preventDefault();
    reject(new Error(`The merging thread broke: ${event.message}`));
  };
  worker.postMessage({ model, adapter, out, dtype } satisfies MergeRequest);
  await listening(signal, () => reject(signal!.reason), promise).finally(() => worker.terminate());
}
