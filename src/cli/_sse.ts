/** Server-sent events, the reader's side. */
import { createParser } from "eventsource-parser";

/** One event as it came over the line. */
export interface ServerSentEvent {
  /** The last id seen; empty before the first. */
  readonly id: string;
  readonly event: string;
  readonly data: string;
}

/**
 * Reads events off a response's body as they come. An event that the stream's end cuts off is dropped, as the
 * standard asks: it comes again after a reconnect.
 *
 * @example An event of two lines
 * ```ts
 * import assert from "node:assert/strict";
 * import { readServerSentEvents } from "./_sse.ts";
 * const { body } = new Response("id: 7\nevent: metrics\ndata: {}\n\n");
 * const events = await Array.fromAsync(readServerSentEvents(body!));
 * assert.deepEqual(events, [{ id: "7", event: "metrics", data: "{}" }]);
 * ```
 */
export async function* readServerSentEvents(
  body: ReadableStream<Uint8Array<ArrayBuffer>>,
): AsyncGenerator<ServerSentEvent> {
  let id = "";
  const events: ServerSentEvent[] = [];
  const parser = createParser({
    onId: (seen) => id = seen,
    onEvent: ({ event = "message", data }) => events.push({ id, event, data }),
  });
  for await (const text of body.pipeThrough(new TextDecoderStream())) {
    parser.feed(text);
    yield* events.splice(0);
  }
}
