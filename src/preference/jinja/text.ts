/** Python's view of a text: code points, its white space, lines and cases. */
import { chargeList, chargeText } from "./budget.ts";

const SURROGATE = /[\ud800-\udfff]/;

/** Whether UTF-16 units and code points are the same. */
function isPlain(text: string): boolean {
  return !SURROGATE.test(text);
}

/** Number of code points. */
export function lengthOf(text: string): number {
  if (isPlain(text)) return text.length;
  let length = 0;
  for (const _ of text) length++;
  return length;
}

/** The code points, each as a text. */
export function pointsOf(text: string): string[] {
  chargeList(text.length);
  return Array.from(text);
}

/** Code points from `start` up to `end`, both within the text. */
export function slicePoints(text: string, start: number, end: number): string {
  if (end <= start) return "";
  chargeText(end - start);
  return isPlain(text) ? text.slice(start, end) : pointsOf(text).slice(start, end).join("");
}

/** The code point's index of a UTF-16 unit's. */
export function pointIndex(text: string, unit: number): number {
  return lengthOf(text.slice(0, unit));
}

/** The UTF-16 unit's index of a code point's; the length past the end. */
export function unitIndex(text: string, point: number): number {
  if (isPlain(text)) return Math.min(point, text.length);
  let unit = 0;
  for (; point > 0 && unit < text.length; point--) unit += text.codePointAt(unit)! > 0xffff ? 2 : 1;
  return unit;
}

const SPACES = new Set(
  "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a" +
    "\u2028\u2029\u202f\u205f\u3000",
);
/** Python's `\s` as a class of a regular expression; JavaScript's has U+FEFF, and lacks five others. */
export const SPACE =
  "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]";

export function isSpace(character: string): boolean {
  return SPACES.has(character);
}

/** A text without what is in a set of characters, white space where there is none, at its ends. */
export function strip(text: string, characters: string | null, sides: "both" | "left" | "right"): string {
  const set = characters === null ? SPACES : new Set(characters);
  let start = 0;
  let end = text.length;
  if (sides !== "right") {
    while (start < end) {
      const point = String.fromCodePoint(text.codePointAt(start)!);
      if (!set.has(point)) break;
      start += point.length;
    }
  }
  if (sides !== "left") {
    while (end > start) {
      const before = end > start + 1 ? text.codePointAt(end - 2)! : 0;
      const point = before > 0xffff ? String.fromCodePoint(before) : text[end - 1]!;
      if (!set.has(point)) break;
      end -= point.length;
    }
  }
  if (start === 0 && end === text.length) return text;
  return text.slice(start, end);
}

const LINE_ENDS = new Set("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029");

/** Lines, as `str.splitlines` has them. */
export function splitLines(text: string, keepEnds = false): string[] {
  chargeText(text.length);
  const lines: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (!LINE_ENDS.has(text[at]!)) continue;
    const end = text[at] === "\r" && text[at + 1] === "\n" ? at + 2 : at + 1;
    lines.push(text.slice(start, keepEnds ? end : at));
    start = end;
    at = end - 1;
  }
  if (start < text.length) lines.push(text.slice(start));
  chargeList(lines.length);
  return lines;
}

/** What `split()` without a separator gives, at most `most` times; from the right where asked. */
export function splitWords(text: string, most: number, fromRight = false): string[] {
  chargeText(text.length);
  const words: string[] = [];
  let start = 0;
  let end = text.length;
  const word = (from: number, to: number) => words.push(text.slice(from, to));
  if (fromRight) {
    for (;;) {
      while (end > 0 && isSpace(text[end - 1]!)) end--;
      if (end === 0) break;
      let at = end;
      if (words.length === most) at = 0;
      else while (at > 0 && !isSpace(text[at - 1]!)) at--;
      word(at, end);
      end = at;
    }
    words.reverse();
  } else {
    for (;;) {
      while (start < end && isSpace(text[start]!)) start++;
      if (start === end) break;
      let at = start;
      if (words.length === most) at = end;
      else while (at < end && !isSpace(text[at]!)) at++;
      word(start, at);
      start = at;
    }
  }
  chargeList(words.length);
  return words;
}

/** Letters whose title case is neither their upper case nor its first letter followed by small ones. */
const TITLES = new Map<string, string>([["\u0149", "\u02bcN"]]);
for (
  const [titled, others] of [
    ["\u01c5", "\u01c4\u01c5\u01c6"],
    ["\u01c8", "\u01c7\u01c8\u01c9"],
    ["\u01cb", "\u01ca\u01cb\u01cc"],
    ["\u01f2", "\u01f1\u01f2\u01f3"],
  ] as const
) {
  for (const letter of others) TITLES.set(letter, titled);
}
for (let code = 0x1f80; code < 0x1fb0; code++) {
  TITLES.set(String.fromCharCode(code), String.fromCharCode(code | 8));
}
for (const [small, capital] of [["\u1fb3", "\u1fbc"], ["\u1fc3", "\u1fcc"], ["\u1ff3", "\u1ffc"]] as const) {
  TITLES.set(small, capital).set(capital, capital);
}
for (
  const [letter, titled] of [
    ["\u1fb2", "\u1fba\u0345"],
    ["\u1fb4", "\u0386\u0345"],
    ["\u1fb7", "\u0391\u0342\u0345"],
    ["\u1fc2", "\u1fca\u0345"],
    ["\u1fc4", "\u0389\u0345"],
    ["\u1fc7", "\u0397\u0342\u0345"],
    ["\u1ff2", "\u1ffa\u0345"],
    ["\u1ff4", "\u038f\u0345"],
    ["\u1ff7", "\u03a9\u0342\u0345"],
  ] as const
) TITLES.set(letter, titled);
const GEORGIAN = /^[\u10d0-\u10fa\u10fd-\u10ff]$/;

/** A letter as a word begins with it. */
export function titleOf(letter: string): string {
  const known = TITLES.get(letter);
  if (known !== undefined) return known;
  if (GEORGIAN.test(letter)) return letter;
  const [first = "", ...rest] = letter.toUpperCase();
  return first + rest.join("").toLowerCase();
}
