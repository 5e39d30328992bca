/** Server-sent events, the reader's side (HTML standard, 9.2.6). */

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
 */
export async function* readServerSentEvents(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<ServerSentEvent> {
  let id = "";
  let event = "message";
  let data: string[] = [];
  for await (const line of readLines(body)) {
    if (line === "") {
      if (data.length > 0) yield { id, event, data: data.join("\n") };
      event = "message";
      data = [];
      continue;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line)!;
    if (field === "id") id = value!;
    else if (field === "event") event = value!;
    else if (field === "data") data.push(value!);
  }
}

/** Whole lines only; \n, \r\n and \r end one. */
async function* readLines(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  let rest = "";
  const text = new TextDecoder();
  for await (const bytes of body) {
    rest += text.decode(bytes, { stream: true });
    // A \r at the very end may be half of a \r\n whose other half comes with the next chunk.
    const lines = rest.split(/\r\n|\n|\r(?!$)/);
    rest = lines.pop()!;
    yield* lines;
  }
}
