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
 * @throws InputError where it is not there, is none, or ends without its end mark
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

/** The two fields of a Message (a FlatBuffers table) that say what it is and how long its body. */
function readHeader(header: Uint8Array<ArrayBuffer>): { kind: ArrowMessage["kind"]; bodyBytes: number } {
  const view = new DataView(header.buffer);
  try {
    const table = view.getUint32(0, true);
    const fields = table - view.getInt32(table, true);
    const offset = (field: number) => {
      const at = 4 + 2 * field;
      return at < view.getUint16(fields, true) ? view.getUint16(fields + at, true) : 0;
    };
    const [type, body] = [offset(1), offset(3)];
    const kind = KINDS[type === 0 ? 0 : view.getUint8(table + type)];
    if (!kind) throw new RangeError("a message is of no known kind");
    return { kind, bodyBytes: body === 0 ? 0 : Number(view.getBigInt64(table + body, true)) };
  } catch (error) {
    throw unreadable("Arrow", (error as Error).message);
  }
}
