/** Reads the fields of a `config.json`, and refuses by its name what cannot be used. */
import { InputError } from "../errors.ts";
import { beginning, isObject, show } from "../json.ts";

/** A parsed `config.json`. */
export type Fields = Readonly<Record<string, unknown>>;

/** A file's fields, and which of them nobody has read. */
export interface RecordedFields {
  readonly fields: Fields;
  /** Names and values; of an object that was read, those inside it: `rope_scaling.alpha`. */
  unread(): [name: string, value: unknown][];
}

/** Records which fields are read, so that no list of them can fall behind the code that reads them. */
export function recorded(json: Fields): RecordedFields {
  const read = new Map<string | symbol, RecordedFields | null>();
  const fields = new Proxy(json, {
    get(target, name) {
      const value: unknown = Reflect.get(target, name);
      if (!read.has(name)) read.set(name, isObject(value) ? recorded(value) : null);
      return read.get(name)?.fields ?? value;
    },
  });
  const unread = (): [string, unknown][] =>
    Object.entries(json).flatMap(([name, value]): [string, unknown][] => {
      if (!read.has(name)) return [[name, value]];
      return (read.get(name)?.unread() ?? []).map(([inner, value]) => [`${name}.${inner}`, value]);
    });
  return { fields, unread };
}

/** Whether a field is not there, or null. */
export function isAbsent(value: unknown): value is null | undefined {
  return value === null || value === undefined;
}

/** Whether a field says nothing: it is absent, or an object without fields. */
export function isEmpty(value: unknown): boolean {
  return isAbsent(value) || (isObject(value) && Object.keys(value).length === 0);
}

/** Names of transformers' activations (its ACT2FN) for what the decoder computes: those of a row are one function. */
const ACTIVATIONS = {
  silu: ["silu", "swish"],
  gelu_tanh: ["gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh", "gelu_accurate"],
} as const;

/** Refuses another activation than the one that the decoder computes. */
export function onlyActivation(json: Fields, field: string, activation: keyof typeof ACTIVATIONS): void {
  const names: readonly unknown[] = ACTIVATIONS[activation];
  const found = json[field];
  if (!isAbsent(found) && !names.includes(found)) refuse(field, found, names.map(show).join(", "));
}

/** Refuses a field that is there with another value than the only one that the decoder computes. */
export function only(json: Fields, name: string, allowed: unknown, accepted: string): void {
  if (!isAbsent(json[name]) && json[name] !== allowed) refuse(name, json[name], accepted);
}

/** A number that is one to the device too, which computes in f32. */
export function readNumber(from: Fields, key: string, field: string, fallback?: number): number {
  const value = isAbsent(from[key]) ? fallback : from[key];
  if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) {
    refuse(field, from[key], "a number that f32 has (below 3.4e38)");
  }
  return value;
}

/** Such a number that is more than 0, to the device too. */
export function readPositive(from: Fields, key: string, field: string, fallback?: number): number {
  const value = readNumber(from, key, field, fallback);
  if (Math.fround(value) <= 0) refuse(field, from[key], "a number > 0");
  return value;
}

/** Above every size that a model of today has, ten times and more; their products stay exact. */
const MOST = 2 ** 24;

/** The highest place in a text that some kernel counts to. */
export const MOST_POSITIONS = 2 ** 32 - 1;

/** A whole number from 1 to `most`. */
export function readCount(json: Fields, name: string, fallback?: number, most = MOST): number {
  const value = isAbsent(json[name]) ? fallback : json[name];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 1) {
    refuse(name, json[name], "a whole number >= 1");
  }
  if (value > most) refuse(name, json[name] ?? value, `a whole number from 1 to ${most}`);
  return value;
}

/** true or false. */
export function readFlag(json: Fields, name: string, fallback = false): boolean {
  const value = json[name] ?? fallback;
  if (typeof value !== "boolean") refuse(name, value, "true or false");
  return value;
}

/** Tokens that end a text. */
const MOST_IDS = 1000;

/** Token ids, of which a file may name one or several; -1 stands for none, as in files of some converters. */
export function readTokenIds(json: Fields, name: string): readonly number[] {
  const value = json[name];
  if (isAbsent(value)) return [];
  const ids: unknown[] = Array.isArray(value) ? value : [value];
  const isId = (id: unknown): id is number =>
    typeof id === "number" && Number.isInteger(id) && id >= -1 && id <= MOST;
  if (ids.length > MOST_IDS || !ids.every(isId)) {
    refuse(name, value, "a token id, a list of them, -1 or null");
  }
  return ids.filter((id) => id >= 0);
}

/** Characters of a refused value that an error carries. */
const MOST_SHOWN = 10_000;

/** @throws InputError naming the field, its value and what would be accepted */
export function refuse(name: string, value: unknown, accepted: string): never {
  const found = isAbsent(value) ? "is missing" : `is ${show(value)}`;
  throw new InputError((field) => `${field} ${found}, but must be ${accepted}.`, {
    path: [{ file: "config.json" }, name],
    // What records its readers cannot be sent to another thread.
    value: isAbsent(value) ? value : beginning(value, MOST_SHOWN),
    accepted,
  });
}
