/** A thread of {@link EncodePool}: answers each batch of comparisons with its tokens, or with what went wrong. */
import { parentPort, workerData } from "node:worker_threads";
import { InputError } from "../errors.ts";
import { toPlainError } from "../plain_error.ts";
import { encodeBatch, type EncodedBatch } from "./encode_batch.ts";
import type { EncodedGroup } from "./encode.ts";
import type { EncodeJob, FromEncoder, ToEncoder } from "./encode_pool.ts";
import type { Comparison } from "./rows.ts";
import { loadTokenizer } from "./tokenizer.ts";

/** How many rows were begun, and the last one's number: the pool looks at them. */
const begun = new Int32Array(workerData as SharedArrayBuffer);
let encode: (batch: readonly Comparison[]) => EncodedBatch;

parentPort!.on("message", async (data: ToEncoder) => {
  if ("job" in data) {
    try {
      encode = await encoderOf(data.job);
    } catch (error) {
      return post({ broken: toPlainError(error) });
    }
    return post({ ready: true });
  }
  let encoded: EncodedBatch;
  try {
    encoded = encode(data.batch);
  } catch (error) {
    return post({ error: toPlainError(error instanceof RangeError ? tooMuch(error) : error) });
  }
  const buffer = gather(encoded.groups);
  post({ encoded: { ...encoded, groups: buffer.groups } }, [buffer.bytes]);
});

async function encoderOf({ model, chat_template, settings, vocabulary }: EncodeJob) {
  const tokenizer = (await loadTokenizer(model)).withChatTemplate(chat_template);
  return (batch: readonly Comparison[]) => encodeBatch(tokenizer, batch, settings, vocabulary, begin);
}

/** The row at fault, where a step asked JavaScript for more than it gives. */
function tooMuch({ message }: RangeError): InputError {
  return new InputError((place) => `Making tokens of ${place} is too much: ${message}.`, {
    path: [{ row: Atomics.load(begun, 1) }],
    accepted: "a tokenizer, a chat template and rows that take less",
  });
}

function begin(row: number): void {
  Atomics.store(begun, 1, row);
  Atomics.add(begun, 0, 1);
}

/** Groups with all their tokens in one buffer, which is handed over and not copied. */
function gather(groups: readonly EncodedGroup[]): { groups: EncodedGroup[]; bytes: ArrayBuffer } {
  const all = groups.flatMap(({ prompt, responses }) => [prompt, ...responses.map(({ tokens }) => tokens)]);
  const ids = new Uint32Array(all.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  const moved = (tokens: Uint32Array): Uint32Array => {
    ids.set(tokens, at);
    return ids.subarray(at, at += tokens.length);
  };
  return {
    groups: groups.map((group) => ({
      ...group,
      prompt: moved(group.prompt),
      responses: group.responses.map((response) => ({ ...response, tokens: moved(response.tokens) })),
    })),
    bytes: ids.buffer,
  };
}

function post(message: FromEncoder, transfer: ArrayBuffer[] = []): void {
  parentPort!.postMessage(message, transfer);
}
