/** A job's events as server-sent events (HTML standard, 9.2). */
import type { Job } from "../src/api/job.ts";
import { isFinished } from "../src/jobs/job.ts";
import type { JobStore } from "../src/jobs/store.ts";

/** A comment this often keeps proxies from taking a quiet job for a dead connection. */
const KEEP_ALIVE_MS = 15_000;
/** Events read from the store at a time. */
const PAGE_SIZE = 500;

/**
 * Streams a job's events from the one after `after` on.
 *
 * @param stopping Ends the stream: an open one would hold up the server's shutdown
 * @param hidePaths what leaves this machine's paths out of an event's JSON
 */
export function eventStream(
  store: JobStore,
  id: string,
  after: number,
  stopping: AbortSignal,
  hidePaths: (json: string) => string,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let last = after;
  let loading: Job["loading"] = null;
  let downloading: Job["downloading"] = null;
  let changed = Promise.withResolvers<boolean>();
  const wake = () => changed.resolve(true);
  const unsubscribe = store.subscribe(id, wake);
  stopping.addEventListener("abort", wake);
  let open = true;
  const end = () => {
    open = false;
    unsubscribe();
    stopping.removeEventListener("abort", wake);
    wake();
  };
  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        if (stopping.aborted) break;
        // Renewed before the store is read, so that a change in between is not missed.
        changed = Promise.withResolvers();
        const events = store.events(id, last, PAGE_SIZE);
        if (events.length > 0) {
          const text = events.map(({ id, type, data }) =>
            `id: ${id}\nevent: ${type}\ndata: ${hidePaths(JSON.stringify(data))}\n\n`
          );
          last = events.at(-1)?.id ?? last;
          return controller.enqueue(encoder.encode(text.join("")));
        }
        const job = store.get(id);
        if (job === undefined || isFinished(job.status)) break;
        // Without an id: they are of the moment, and do not come again after a reconnect.
        const tell = (event: string, data: unknown) =>
          controller.enqueue(encoder.encode(`event: ${event}\ndata: ${JSON.stringify(data)}\n\n`));
        if (job.loading !== null && job.loading !== loading) return tell("loading", loading = job.loading);
        if (job.downloading !== null && job.downloading !== downloading) {
          return tell("downloading", downloading = job.downloading);
        }
        const timer = setTimeout(() => changed.resolve(false), KEEP_ALIVE_MS);
        const woken = await changed.promise;
        clearTimeout(timer);
        if (!open) return;
        if (!woken) return controller.enqueue(encoder.encode(": waiting\n\n"));
      }
      end();
      controller.close();
    },
    cancel: end,
  });
}
