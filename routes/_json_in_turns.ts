/** Writes answers that may be long, with other requests served in between, for readers that may stop. */
import type { Context } from "hono";
import { joined } from "../src/bytes.ts";
import { PART_WEIGHT, weightOf } from "../src/json_parts.ts";
import { turns } from "../src/turns.ts";
import { dropOf, patientStream } from "./_patient_stream.ts";

/** UTF-16 units that are gathered before they are encoded. */
const PIECE_UNITS = 2 ** 16;

/** Bytes that are handed to a connection at a time, and that are not worth a watch over their reader. */
const SLICE_BYTES = 2 ** 16;

/** Answers a value, which a reader that stops does not hold for ever. */
export async function answerJson(c: Context, value: unknown, patienceMs?: number): Promise<Response> {
  const bytes = await jsonInTurns(value);
  let at = 0;
  const slices = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      if (at >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(at, at += SLICE_BYTES));
    },
  }, { highWaterMark: 0 });
  const body = bytes.length <= SLICE_BYTES ? bytes : patientStream(slices, dropOf(c), patienceMs);
  return c.body(body, 200, { "content-type": "application/json", "content-length": `${bytes.length}` });
}

/**
 * A value's JSON in UTF-8, as `JSON.stringify` has it.
 *
 * @param end comes behind it
 */
export async function jsonInTurns(value: unknown, end = ""): Promise<Uint8Array<ArrayBuffer>> {
  const encoder = new TextEncoder();
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  const pass = turns();
  let text = "";
  for (const next of jsonTexts(value)) {
    text += next;
    if (text.length >= PIECE_UNITS) {
      pieces.push(encoder.encode(text));
      text = "";
    }
    const others = pass();
    if (others) await others;
  }
  pieces.push(encoder.encode(text + end));
  return joined(pieces);
}

/** A value's JSON in texts that take a few milliseconds each. */
function* jsonTexts(value: unknown): Generator<string> {
  if (typeof value !== "object" || value === null || weightOf(value, PART_WEIGHT) < PART_WEIGHT) {
    return yield JSON.stringify(value) ?? "null"; // as a list has what is undefined
  }
  const isList = Array.isArray(value);
  let before = isList ? "[" : "{";
  for (const [key, inner] of isList ? value.entries() : Object.entries(value)) {
    if (inner === undefined && !isList) continue;
    yield isList ? before : `${before}${JSON.stringify(key)}:`;
    yield* jsonTexts(inner);
    before = ",";
  }
  yield isList ? "]" : "}";
}
