/** How many requests may wait for the device at one time, and how much they may hold in memory. */
import type { MiddlewareHandler } from "hono";
import type { Config } from "../src/config.ts";
import { InputError } from "../src/errors.ts";

/** Bodies of the largest size that may be held at one time; smaller ones count by their length. */
const LARGEST_BODIES = 8;
/** Seconds after which a request that was refused may come again, at most. */
const LATEST = 60;
/** How much of the estimate of a request's time each one changes. */
const WEIGHT = 0.1;

/** A place among those that wait. */
export class Place implements Disposable {
  readonly #leave: () => void;
  #kept = false;

  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** Whether it outlasts the handler: whoever took it gives it back. */
  get kept(): boolean {
    return this.#kept;
  }

  /** For an answer that goes on after its handler has returned. */
  keep(): Disposable {
    this.#kept = true;
    return this;
  }

  [Symbol.dispose](): void {
    this.#leave();
  }
}

/**
 * Refuses a request with 429 where too many wait, before its body is read.
 *
 * @returns a middleware, which sets `place` to the request's {@link Place}
 */
export function admission(
  { queue = Infinity, maxBodyBytes }: Partial<Config> & Pick<Config, "maxBodyBytes">,
): MiddlewareHandler {
  const mostBytes = LARGEST_BODIES * maxBodyBytes;
  let waiting = 0;
  let bytes = 0;
  let seconds = 1;
  return async (c, next) => {
    // of a body whose length is not said as much may come as any may have
    const length = Number(c.req.header("content-length") ?? maxBodyBytes);
    const size = Math.min(Number.isFinite(length) ? length : maxBodyBytes, maxBodyBytes);
    if (waiting >= queue || (waiting > 0 && bytes + size > mostBytes)) {
      const retryAfter = Math.min(Math.max(Math.round(seconds), 1), LATEST);
      const why = waiting >= queue ? `${waiting} requests` : `Requests of ${bytes} bytes`;
      throw new InputError(`${why} are waiting already: send this one again in ${retryAfter} s.`, {
        path: ["worker"],
        accepted:
          `${queue} requests at one time (SIMPO_QUEUE), of ${mostBytes} bytes in all (${LARGEST_BODIES} times SIMPO_MAX_BODY)`,
        status: 429,
        retryAfter,
      });
    }
    const start = performance.now();
    waiting++;
    bytes += size;
    let left = false;
    const place = new Place(() => {
      if (left) return;
      left = true;
      waiting--;
      bytes -= size;
      seconds += ((performance.now() - start) / 1000 - seconds) * WEIGHT;
    });
    c.set("place", place);
    try {
      await next();
    } finally {
      if (!place.kept) place[Symbol.dispose]();
    }
  };
}
