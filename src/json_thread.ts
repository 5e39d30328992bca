/** Reads the JSON that requests bring: a long one in a thread of its own, so that the others are answered meanwhile. */
import { InputError } from "./errors.ts";
import { JsonAssembly, type JsonPart } from "./json_parts.ts";
import {
  excessOf,
  mostBodyAllFields,
  mostBodyBrackets,
  mostBodyDepth,
  mostBodyFields,
  mostBodyNames,
  mostBodyValues,
} from "./json_scan.ts";
import { fromPlainError, type PlainError } from "./plain_error.ts";

/** From the thread: a value's parts, then that these were all; or what is wrong with the text. */
export type FromReader = { readonly part: JsonPart } | { readonly done: true } | {
  readonly error: PlainError;
};

/** What is shorter is read at once: it takes some milliseconds. */
const SHORT_BYTES = 2 ** 20;
/** Each holds a text and what is made of it. */
const MOST_THREADS = 2;
/** A hundred times what the longest body takes. */
const MOST_SECONDS = 20;

const ACCEPTED =
  `JSON in UTF-8, nested at most ${mostBodyDepth} deep, with at most ${mostBodyValues} values, ` +
  `${mostBodyBrackets} of them objects and lists, ${mostBodyFields} fields an object, ` +
  `${mostBodyAllFields} fields in all and ${mostBodyNames} names of fields`;

/** @throws {InputError} with status 400 where it is no JSON, 422 where it is beyond bounds */
export function readJsonBytes(bytes: Uint8Array<ArrayBuffer>): unknown {
  const excess = excessOf(bytes);
  if (excess !== null) throw refused(excess, 422);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw refused("is not UTF-8", 400);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw new InputError("The body must be JSON.", {
      path: ["body"],
      accepted: "a JSON object",
      status: 400,
    });
  }
}

/**
 * The value of a request's body.
 *
 * @param bytes handed over: they are empty afterwards
 * @throws {InputError} as {@link readJsonBytes}, or where it takes too long
 */
export async function readJson(bytes: Uint8Array<ArrayBuffer>): Promise<unknown> {
  if (bytes.length <= SHORT_BYTES) return readJsonBytes(bytes);
  await turn();
  try {
    return await inThread(bytes);
  } finally {
    running--;
    waiting.shift()?.();
  }
}

let running = 0;
const waiting: (() => void)[] = [];

/** Waits until a thread is free, and takes it. */
async function turn(): Promise<void> {
  if (running >= MOST_THREADS) await new Promise<void>((resolve) => waiting.push(resolve));
  running++;
}

async function inThread(bytes: Uint8Array<ArrayBuffer>): Promise<unknown> {
  const worker = new Worker(new URL("./json_worker.ts", import.meta.url), { type: "module", name: "json" });
  const answer = Promise.withResolvers<unknown>();
  const late = setTimeout(
    () => answer.reject(refused(`took more than ${MOST_SECONDS} s to read`, 422)),
    MOST_SECONDS * 1000,
  );
  const whole = new JsonAssembly();
  worker.onmessage = ({ data }: MessageEvent<FromReader>) => {
    if ("part" in data) whole.add(data.part);
    else if ("done" in data) answer.resolve(whole.value);
    else answer.reject(fromPlainError(data.error));
  };
  worker.onerror = (event) => {
    event.preventDefault(); // the process is not to end by it
    answer.reject(new Error(`The thread that reads JSON broke: ${event.message}`));
  };
  worker.postMessage(bytes, [bytes.buffer]);
  try {
    return await answer.promise;
  } finally {
    clearTimeout(late);
    worker.terminate();
  }
}

function refused(why: string, status: number): InputError {
  return new InputError((field) => `${field} ${why}.`, { path: ["body"], accepted: ACCEPTED, status });
}
