/** The messages of an Arrow file, one at a time: its readers want all of it in memory. */
import { openDataFile, unreadable } from "./source_row.ts";

/** A message of Arrow's IPC format: its framing, header and body. */
export interface ArrowMessage {
  readonly kind: "schema" | "dictionary" | "batch";
  readonly bytes: Uint8Array;
}

/** MessageHeader of Arrow's Message.fbs. */
const KINDS = [null, "schema", "dictionary", "batch"] as const;

/**
 * Cuts an Arrow stream, or the stream inside an Arrow file, into its messages.
 *
 * Source: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
 *
 * @throws {InputError} where it is not there, is none, or ends without its end mark
 */
export async function* readArrowMessages(path: string): AsyncGenerator<ArrowMessage> {
  using file = await openDataFile(path);
  let left = (await file.stat()).size;
  const read = async (length: number): Promise<Uint8Array<ArrayBuffer>> => {
    if (!(length >= 0 && length <= left)) {
      throw unreadable("Arrow", left === 0 ? "it ends without its end mark" : "it ends in a message");
    }
    left -= length;
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const count = await file.read(bytes.subarray(done));
      if (count === null) throw unreadable("Arrow", "it has become shorter");
      done += count;
    }
    return bytes;
  };
  let start = await read(4);
  if (new TextDecoder().decode(start) === "ARRO") {
    await read(4); // W1 and two bytes that align
    start = await read(4);
  }
  for (;; start = await read(4)) {
    // Before version 0.15 a message began with its length.
    const isMarked = new DataView(start.buffer).getUint32(0, true) === 0xffffffff;
    const size = isMarked ? await read(4) : start;
    const length = new DataView(size.buffer).getInt32(0, true);
    if (length === 0) return;
    const header = await read(length);
    const { kind, bodyBytes } = readHeader(header);
    const body = await read(bodyBytes);
    const bytes = new Uint8Array(8 + length + bodyBytes);
    bytes.fill(0xff, 0, 4);
    bytes.set(new Uint8Array(Int32Array.of(length).buffer), 4);
    bytes.set(header, 8);
    bytes.set(body, 8 + length);
    yield { kind, bytes };
  }
}

/** A vector of a table: its field, the bytes of an element and, where its elements are tables, their vectors. */
type Vectors = readonly (readonly [field: number, elementBytes: number, inner?: () => Vectors])[];

/** Field of Schema.fbs: children, custom_metadata. */
const FIELD: Vectors = [[5, 4, () => FIELD], [6, 4]];
/** The vectors of each kind of header: fields and custom_metadata; nodes and buffers. */
const VECTORS: Readonly<Record<ArrowMessage["kind"], Vectors>> = {
  schema: [[1, 4, () => FIELD], [2, 4]],
  dictionary: [],
  batch: [[1, 16], [2, 16]],
};
/** More tables than any schema has; damaged offsets could lead to the same ones again and again. */
const MOST_TABLES = 100_000;

/**
 * What a Message (a FlatBuffers table) is and how long its body. Its vectors must be inside it: flechette would read a
 * damaged one for hours.
 */
function readHeader(header: Uint8Array<ArrayBuffer>): { kind: ArrowMessage["kind"]; bodyBytes: number } {
  const view = new DataView(header.buffer);
  let tables = 0;
  /** Where a field of a table stands; null where it is left out. */
  const place = (table: number, field: number) => {
    const fields = table - view.getInt32(table, true);
    const at = 4 + 2 * field;
    const offset = at < view.getUint16(fields, true) ? view.getUint16(fields + at, true) : 0;
    return offset === 0 ? null : table + offset;
  };
  const pointed = (at: number) => at + view.getUint32(at, true);
  const check = (table: number, vectors: Vectors) => {
    if (++tables > MOST_TABLES) throw new RangeError("its schema is endless");
    for (const [field, bytes, inner] of vectors) {
      const at = place(table, field);
      if (at === null) continue;
      const vector = pointed(at);
      const count = view.getUint32(vector, true);
      if (vector + 4 + count * bytes > header.length) throw new RangeError("a message is damaged");
      for (let i = 0; inner && i < count; i++) check(pointed(vector + 4 + 4 * i), inner());
    }
  };
  try {
    const message = pointed(0);
    const [type, root, body] = [1, 2, 3].map((field) => place(message, field)) as (number | null)[];
    const kind = KINDS[type == null ? 0 : view.getUint8(type)];
    if (!kind || root == null) throw new RangeError("a message is of no known kind");
    check(pointed(root), VECTORS[kind]);
    return { kind, bodyBytes: body == null ? 0 : Number(view.getBigInt64(body, true)) };
  } catch (error) {
    throw unreadable("Arrow", (error as Error).message);
  }
}
