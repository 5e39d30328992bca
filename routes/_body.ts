/** Bodies of requests: read whole within a bound of size and time. */
import type { MiddlewareHandler } from "hono";
import { joined } from "../src/bytes.ts";
import { InputError } from "../src/errors.ts";
import type { Place } from "./_admission.ts";

/** How slowly a body may come. */
export interface BodyPace {
  /** Milliseconds that every body has. */
  readonly graceMs: number;
  /** How many bytes have to come in each second on top of these. */
  readonly bytesPerSecond: number;
}

/** A line of 128 kbit/s keeps up; who sends a byte now and then does not. */
export const BODY_PACE: BodyPace = { graceMs: 15_000, bytesPerSecond: 16 * 1024 };

/** Bytes of a body on a route that says a word or nothing: no place keeps count of them. */
const SHORT_BYTES = 2 ** 16;

/**
 * Bytes beyond the limit that are read and dropped before the refusal. Where an answer comes while a client still sends, the
 * connection is reset and many clients never see the answer.
 */
const DRAINED_BYTES = 64 * 1024 * 1024;

/**
 * Reads a request's body before the routes do.
 *
 * @param maxBytes of a request that has a place among those that wait
 * @throws {InputError} with status 413 past `maxBytes`, 408 where it comes too slowly, 400 where it breaks off, 429 where the
 * request has a place and there is no room for it
 */
export function boundedBody(maxBytes: number, pace = BODY_PACE): MiddlewareHandler {
  return async (c, next) => {
    const { raw } = c.req;
    const place: Place | undefined = c.get("place");
    if (raw.body === null) {
      place?.enter();
      return await next();
    }
    const most = place === undefined ? Math.min(SHORT_BYTES, maxBytes) : maxBytes;
    const bytes = await readBody(raw, most, pace, place);
    place?.enter();
    // Where Hono keeps a body that it has read, each form as a promise.
    const { buffer } = bytes.byteLength === bytes.buffer.byteLength ? bytes : bytes.slice();
    Object.assign(c.req.bodyCache, { arrayBuffer: Promise.resolve(buffer) });
    await next();
  };
}

async function readBody(
  { body, headers }: Request,
  maxBytes: number,
  pace: BodyPace,
  place: Place | undefined,
): Promise<Uint8Array> {
  const tooLong = new InputError(`The body is longer than ${maxBytes} bytes.`, {
    path: ["body"],
    accepted: `at most ${maxBytes} bytes${maxBytes === SHORT_BYTES ? "" : " (SIMPO_MAX_BODY)"}`,
    status: 413,
  });
  if (Number(headers.get("content-length")) > maxBytes + DRAINED_BYTES) throw tooLong;
  const reader = body!.getReader();
  const pieces: Uint8Array[] = [];
  let length = 0;
  const late = deadline(pace, () => length);
  try {
    for (;;) {
      const { done, value } = await Promise.race([reader.read(), late.passed]);
      if (done) break;
      length += value.length;
      const refusal = length > maxBytes ? tooLong : place?.hold(value.length);
      if (refusal) {
        pieces.length = 0;
        await drain(reader, pace.graceMs);
        throw refusal;
      }
      pieces.push(value);
    }
  } catch (error) {
    if (error instanceof InputError) throw error;
    throw new InputError("The body broke off before its end.", {
      path: ["body"],
      accepted: "a whole body",
      status: 400,
    });
  } finally {
    late.end();
    reader.releaseLock();
  }
  return joined(pieces);
}

/** Reads what is left of a body and drops it, as far as it comes within a time. */
async function drain(reader: ReadableStreamDefaultReader<Uint8Array>, ms: number): Promise<void> {
  const late = deadline({ graceMs: ms, bytesPerSecond: Infinity }, () => 0);
  try {
    for (let dropped = 0; dropped < DRAINED_BYTES;) {
      const { done, value } = await Promise.race([reader.read(), late.passed]);
      if (done) return;
      dropped += value.length;
    }
  } catch {
    // Its sender is slow, or has gone.
  } finally {
    late.end();
  }
}

/** A promise that is rejected when a body falls behind its pace. @param length bytes that have come so far */
function deadline(
  { graceMs, bytesPerSecond }: BodyPace,
  length: () => number,
): { readonly passed: Promise<never>; end(): void } {
  const { promise, reject } = Promise.withResolvers<never>();
  promise.catch(() => {}); // nobody may be waiting
  const start = performance.now();
  const look = () => {
    const gone = performance.now() - start;
    const left = graceMs + length() / bytesPerSecond * 1000 - gone;
    if (left > 0) return timer = setTimeout(look, left);
    const seconds = (gone / 1000).toFixed(1);
    reject(
      new InputError(`The body comes too slowly: ${length()} bytes in ${seconds} s.`, {
        path: ["body"],
        accepted: `a body within ${graceMs / 1000} s, and a second more for each ${bytesPerSecond} bytes`,
        status: 408,
      }),
    );
  };
  let timer: ReturnType<typeof setTimeout> = setTimeout(look, graceMs);
  return { passed: promise, end: () => clearTimeout(timer) };
}
