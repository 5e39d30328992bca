import { InputError, mustBe, within } from "../../errors.ts";
import { isObject, show } from "../../json.ts";

/** A JSON object of tokenizer.json. */
export type Json = Readonly<Record<string, unknown>>;

/**
 * A component of tokenizer.json, by its field `type`, as the readers of its kind make it.
 *
 * @param kind what the component is: "normalizer", …
 * @throws {InputError} naming the type where no reader knows it
 */
export function readTyped<T>(
  kind: string,
  json: unknown,
  readers: Readonly<Record<string, (json: Json) => T>>,
): T {
  const type = isObject(json) ? json["type"] : undefined;
  const read = typeof type === "string" && Object.hasOwn(readers, type) ? readers[type] : undefined;
  if (read) return read(json as Json);
  throw new InputError(
    (place) => `${place} ${show(isObject(json) ? type : json)} is no ${kind} known here.`,
    {
      path: isObject(json) ? ["type"] : [],
      value: isObject(json) ? type : json,
      accepted: `one of ${Object.keys(readers).join(", ")}`,
    },
  );
}

/** The same of each entry of a list. */
export function readList<T>(json: Json, field: string, read: (entry: unknown) => T): T[] {
  const list = json[field];
  if (!Array.isArray(list)) throw unlike(json, field, "a list");
  return list.map((entry, index) => within([field, index], () => read(entry)));
}

/** A text. @throws {InputError} for anything else, and for none where there is no fallback */
export function text(json: Json, field: string, fallback?: string): string {
  const value = json[field] ?? fallback;
  if (typeof value !== "string") throw unlike(json, field, "a string");
  return value;
}

/** A text of one character. */
export function character(json: Json, field: string): string {
  const value = text(json, field);
  if ([...value].length !== 1) throw unlike(json, field, "one character");
  return value;
}

/** True or false. */
export function flag(json: Json, field: string, fallback?: boolean): boolean {
  const value = json[field] ?? fallback;
  if (typeof value !== "boolean") throw unlike(json, field, "true or false");
  return value;
}

/** A whole number, at least `least`. */
export function count(json: Json, field: string, least: number, fallback?: number): number {
  const value = json[field] ?? fallback;
  if (!Number.isSafeInteger(value) || Number(value) < least) {
    throw unlike(json, field, `a whole number >= ${least}`);
  }
  return value as number;
}

/** One of several words. */
export function word<T extends string>(json: Json, field: string, words: readonly T[], fallback?: T): T {
  const value = json[field] ?? fallback;
  if (!words.includes(value as T)) throw unlike(json, field, `one of ${words.join(", ")}`);
  return value as T;
}

/** What a field that holds something else is refused with. */
export function unlike(json: Json, field: string, accepted: string): InputError {
  return mustBe(accepted, [field], json[field]);
}
