/// <reference lib="deno.worker" />
/** The thread of one merge; answers with null, or with what went wrong. */
import { exportMerged } from "../model/export.ts";
import { type PlainError, toPlainError } from "../plain_error.ts";
import type { MergeRequest } from "./merge.ts";

const scope = self as unknown as DedicatedWorkerGlobalScope;

scope.onmessage = async ({ data }: MessageEvent<MergeRequest>) => {
  let failure: PlainError | null = null;
  try {
    await exportMerged(data.model, data.adapter, data.out, { dtype: data.dtype });
  } catch (error) {
    failure = toPlainError(error);
  }
  scope.postMessage(failure);
};
