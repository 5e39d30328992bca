/** Streams whose reader may stop. */
import type { Context } from "hono";

/** What the server hands on with a request. */
interface Reach {
  readonly drop: () => void;
}

/** What breaks off the connection that a request came by; nothing where it came by none, as in tests. */
export function dropOf({ env }: Context): () => void {
  return (env as Partial<Reach> | undefined)?.drop ?? (() => {});
}

/** How long a reader may take nothing although there is something. */
const PATIENCE_MS = 5 * 60_000;

/**
 * A stream that is broken off, and its source with it, where its reader takes nothing for a time. It holds nothing back
 * itself: a reader that has stopped costs what its sockets hold, and no longer than that.
 *
 * @param drop breaks the connection off, see {@link dropOf}
 */
export function patientStream<T>(
  stream: ReadableStream<T>,
  drop: () => void,
  patienceMs = PATIENCE_MS,
): ReadableStream<T> {
  const reader = stream.getReader();
  let timer: ReturnType<typeof setTimeout> | undefined;
  return new ReadableStream<T>({
    async pull(controller) {
      clearTimeout(timer);
      try {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        controller.enqueue(value);
      } catch (error) {
        return controller.error(error);
      }
      timer = setTimeout(() => {
        const error = new Error(`The reader took nothing for ${patienceMs / 1000} s.`);
        controller.error(error);
        reader.cancel(error).catch(() => {});
        drop();
      }, patienceMs);
    },
    async cancel(reason) {
      clearTimeout(timer);
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}
