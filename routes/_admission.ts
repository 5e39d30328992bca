/** How many requests may wait for the device at one time, and how much they may hold in memory. */
import type { MiddlewareHandler } from "hono";
import type { Config } from "../src/config.ts";
import { InputError } from "../src/errors.ts";

/** Bodies of the largest size that may be held at one time. */
const LARGEST_BODIES = 8;
/** Seconds after which a request that was refused may come again, at most. */
const LATEST = 60;
/** How much of the estimate of a request's time each one changes. */
const WEIGHT = 0.1;

/** Those that wait. */
class Room {
  readonly #queue: number;
  readonly #mostBytes: number;
  #waiting = 0;
  #bytes = 0;
  #seconds = 1;

  constructor(queue: number, mostBytes: number) {
    this.#queue = queue;
    this.#mostBytes = mostBytes;
  }

  /** Why nobody else comes in; null where somebody with a body of so many bytes may. */
  refusal(bytes = 0): InputError | null {
    if (this.#waiting >= this.#queue) return this.#refusal(`${this.#waiting} requests`);
    return this.#bytes + bytes <= this.#mostBytes ? null : this.#refusal(`Requests of ${this.#bytes} bytes`);
  }

  enter(): void {
    this.#waiting++;
  }

  leave(seconds: number): void {
    this.#waiting--;
    this.#seconds += (seconds - this.#seconds) * WEIGHT;
  }

  hold(bytes: number): void {
    this.#bytes += bytes;
  }

  letGo(bytes: number): void {
    this.#bytes -= bytes;
  }

  #refusal(why: string): InputError {
    const retryAfter = Math.min(Math.max(Math.round(this.#seconds), 1), LATEST);
    return new InputError(`${why} are waiting already: send this one again in ${retryAfter} s.`, {
      path: ["worker"],
      accepted:
        `${this.#queue} requests at one time (SIMPO_QUEUE), of ${this.#mostBytes} bytes in all (${LARGEST_BODIES} times SIMPO_MAX_BODY)`,
      status: 429,
      retryAfter,
    });
  }
}

/** A request's place among those that wait, from when its body has come. */
export class Place implements Disposable {
  readonly #room: Room;
  #bytes = 0;
  #since: number | null = null;
  #kept = false;

  constructor(room: Room) {
    this.#room = room;
  }

  /** Counts bytes of its body as they come. @returns why there is no room for them, else null */
  hold(bytes: number): InputError | null {
    const refusal = this.#room.refusal(bytes);
    if (refusal !== null) return refusal;
    this.#bytes += bytes;
    this.#room.hold(bytes);
    return null;
  }

  /** @throws {InputError} with status 429 where too many wait */
  enter(): void {
    const refusal = this.#room.refusal();
    if (refusal !== null) throw refusal;
    this.#room.enter();
    this.#since = performance.now();
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
    this.#room.letGo(this.#bytes);
    if (this.#since !== null) this.#room.leave((performance.now() - this.#since) / 1000);
    this.#bytes = 0;
    this.#since = null;
  }
}

/**
 * Refuses a request with 429 where too many wait, before its body is read. A body that is on its way takes no place, be it
 * ever so slow, and what memory it takes.
 *
 * @returns a middleware, which sets `place` to the request's {@link Place}: whoever has read its body enters it
 */
export function admission(
  { queue = Infinity, maxBodyBytes }: Partial<Config> & Pick<Config, "maxBodyBytes">,
): MiddlewareHandler {
  const room = new Room(queue, LARGEST_BODIES * maxBodyBytes);
  return async (c, next) => {
    const length = Number(c.req.header("content-length") ?? 0);
    const refusal = room.refusal(length > maxBodyBytes ? 0 : length); // what is longer is refused for that
    if (refusal !== null) throw refusal;
    const place = new Place(room);
    c.set("place", place);
    try {
      await next();
    } finally {
      if (!place.kept) place[Symbol.dispose]();
    }
  };
}
