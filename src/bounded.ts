/** Values and sentences of any length, cut to what an answer may hold. */

import { beginning, isDeeper, mostDepth, show } from "./json.ts";

const encoder = new TextEncoder();

/**
 * A text that is not longer than `most` characters, but for a note of its length where it was cut; cut again it keeps the
 * first note.
 *
 * @param most UTF-16 units
 *
 * @example Four characters of ten
 * ```ts
 * import assert from "node:assert/strict";
 * import { boundedText } from "./bounded.ts";
 * assert.equal(boundedText("0123456789", 4), "0123… (10 characters)");
 * ```
 */
export function boundedText(text: string, most: number): string {
  if (text.length <= most) return text;
  const note = /… \((?:more than )?\d+ characters\)$/.exec(text.slice(-50))?.[0] ??
    `… (${text.length} characters)`;
  // Half of a surrogate pair is no character.
  const end = /[\ud800-\udbff]/.test(text[most - 1] ?? "") ? most - 1 : most;
  return text.slice(0, end) + note;
}

/**
 * A value as it is where its JSON is short, else its beginning as a text that ends with its length.
 *
 * @param mostBytes of its JSON; a text in its place may take a few more
 */
export function boundedValue(value: unknown, mostBytes: number): unknown {
  if (typeof value === "string" && value.length > mostBytes) return cutText(value, mostBytes);
  const part = beginning(value, MOST_WRITTEN);
  if (isDeeper(part, mostDepth)) return show(part);
  const json = JSON.stringify(part, (_, part) => typeof part === "bigint" ? String(part) : part);
  if (json === undefined || bytesOf(json) <= mostBytes) return json && JSON.parse(json);
  if (json.length <= MOST_WRITTEN) return cutText(typeof value === "string" ? value : json, mostBytes);
  return cutText(`${json.slice(0, MOST_WRITTEN)}… (more than ${MOST_WRITTEN} characters)`, mostBytes);
}

/** Most characters of a value that are written, to say how many there are. */
const MOST_WRITTEN = 100_000;

function cutText(text: string, mostBytes: number): string {
  for (let most = mostBytes;; most = Math.floor(most / 2)) {
    const cut = boundedText(text, most);
    if (most === 0 || bytesOf(JSON.stringify(cut)) <= mostBytes + 40) return cut;
  }
}

/**
 * A value of the same form with the texts and lists in it cut until its JSON is short enough: a cut text ends with its length,
 * and a cut list of texts with a text that says how many there are.
 */
export function boundedJson<T>(value: T, mostBytes: number): T {
  if (bytesOf(JSON.stringify(value)) <= mostBytes) return value;
  for (let most = 1000;; most = Math.floor(most / 2)) {
    const cut = cutInside(value, most);
    if (most === 0 || bytesOf(JSON.stringify(cut)) <= mostBytes) return cut as T;
  }
}

/** The most items that a cut list has. */
const mostItems = 50;

function cutInside(value: unknown, most: number, depth = 0): unknown {
  if (typeof value === "string") return boundedText(value, most);
  if (typeof value !== "object" || value === null) return value;
  if (depth > 8) return "…";
  const items = most > 10 ? mostItems : most;
  if (Array.isArray(value)) {
    const kept = value.slice(0, items).map((item) => cutInside(item, most, depth + 1));
    return value.length > items && typeof value[0] === "string"
      ? [...kept, `… (${value.length} in all)`]
      : kept;
  }
  const entries = Object.entries(value).slice(0, mostItems);
  return Object.fromEntries(
    entries.map(([name, part]) => [boundedText(name, most), cutInside(part, most, depth + 1)]),
  );
}

function bytesOf(json: string): number {
  return encoder.encode(json).length;
}
