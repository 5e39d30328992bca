import type { toRegExpDetails } from "oniguruma-to-es";
import { InputError, mustBe } from "../../errors.ts";
import { isObject } from "../../json.ts";
import type { Json } from "./_fields.ts";

/** A part of a text, and whether a pattern matches it. */
export interface Part {
  readonly text: string;
  readonly matches: boolean;
}

/** What becomes of the parts that match: by the Rust library's names. */
export const BEHAVIORS = [
  "Removed",
  "Isolated",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
] as const;
export type Behavior = typeof BEHAVIORS[number];

/**
 * The field `pattern`: `{"String": …}` stands for itself, `{"Regex": …}` is a regular expression of Oniguruma's dialect.
 *
 * @returns with the flag `g`
 * @throws {InputError} for a pattern that JavaScript has no like of
 */
export function readPattern(json: Json): RegExp {
  const { pattern } = json;
  const { String: text, Regex: source } = isObject(pattern) ? pattern : {};
  const kind = typeof text === "string" ? "String" : "Regex";
  const given = typeof text === "string" ? text : source;
  if (typeof given === "string") {
    try {
      return compiled(kind === "String" ? new RegExp(RegExp.escape(given), "gu") : onigurumaRegExp(given));
    } catch (error) {
      throw new InputError((place) => `${place} cannot be used: ${whyNot(error)}`, {
        path: ["pattern", kind],
        value: given,
        accepted: "a regular expression of Oniguruma's that JavaScript can follow",
      });
    }
  }
  throw mustBe("a String or a Regex", ["pattern"], pattern, '{"String": "…"} or {"Regex": "…"}');
}

/** A pattern that can be used: V8 says only then that it is too large. It compiles one for each width of characters. */
function compiled(pattern: RegExp): RegExp {
  for (const text of ["", "\u0100"]) text.search(pattern);
  return pattern;
}

/** V8 puts the whole pattern before what is wrong with it. */
function whyNot(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.length > 200 ? `…${message.slice(-100)}` : message;
}

/**
 * A pattern that both dialects read alike but for white space and for letters in both cases, as GPT-2's, Llama 3's and Qwen's
 * are: letters, classes, groups, lookahead, and quantifiers that are neither lazy nor possessive.
 */
const SHARED =
  /^(?:[\w ',/|)]|\\[rnsS]|\\p\{[A-Z][a-z]?\}|\(\?[:!]|\(\?i:[A-Za-z'|]+\)|\[\^?(?:[\w ',/]|\\[rns]|\\p\{[A-Z][a-z]?\})+\]|(?:[?*+]|\{\d+(?:,\d*)?\})(?![?*+{]))*$/;

/** What Oniguruma counts as part of a word, in a class. */
const WORDS = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
/** Outside of classes it counts these numbers too. */
const LATIN_NUMBERS = "\\u00b2\\u00b3\\u00b9\\u00bc-\\u00be";

/** Spells what is part of a word, of which the translator has all numbers. */
function spellWords(source: string): string {
  let depth = 0; // of classes, which Oniguruma nests
  return source.replaceAll(/\\(?:p\{\^?word\}|.)|\[:\^?word:\]|\[\^?\]?|\]/gis, (part) => {
    const isWord = /^(?:\\w|\\p\{\^?word\}|\[:\^?word:\])$/i.test(part);
    if (isWord && (depth > 0 || part.startsWith("\\"))) {
      const isNot = /^\\[WP]/.test(part) !== part.includes("^");
      return `[${isNot ? "^" : ""}${WORDS}${depth > 0 ? "" : LATIN_NUMBERS}]`;
    }
    if (part.startsWith("[")) depth++;
    else if (part === "]") depth--;
    return part;
  });
}

let translate: typeof toRegExpDetails | undefined;

/** Loads what translates patterns, where one asks for it: it takes as long as all else that a tokenizer needs. */
export async function loadTranslator(json: unknown): Promise<void> {
  if (translate === undefined && patternsIn(json).some((pattern) => !SHARED.test(pattern))) {
    translate = (await import("oniguruma-to-es")).toRegExpDetails;
  }
}

function patternsIn(json: unknown): string[] {
  if (typeof json !== "object" || json === null) return [];
  if ("Regex" in json && typeof json.Regex === "string") return [json.Regex];
  return Object.values(json).flatMap(patternsIn);
}

/**
 * A regular expression of Oniguruma's as JavaScript has it, with the flag `g`; {@link loadTranslator} was to see it first.
 *
 * No case is ignored by a flag: V8 15 goes on ignoring case behind a group that does (`(?i:x)[A-Z]` matches "xa"), and with
 * the flag `i` U+0345 is a letter.
 */
export function onigurumaRegExp(source: string): RegExp {
  // The translator's \X lacks Hangul's syllables and more.
  if (/\\[bBX]/.test(source)) throw new Error("it asks for \\b or \\X.");
  const spelled = spellWords(source).replaceAll(
    /\(\?i:([A-Za-z'|[\]]+)\)/g,
    (_, inner: string) => `(?:${inner.replaceAll(/[A-Za-z]/g, bothCases)})`,
  );
  if (SHARED.test(source)) {
    return new RegExp(spelled.replaceAll("\\s", "\\p{space}").replaceAll("\\S", "\\P{space}"), "gu");
  }
  if (translate === undefined) throw new Error("the translator is not loaded.");
  const { pattern, flags } = translate(spelled, { avoidSubclass: true, global: true, target: "ES2024" });
  if (flags.includes("i")) throw new Error("it ignores case in more than a list of words.");
  return new RegExp(pattern, flags);
}

function bothCases(letter: string): string {
  const lower = letter.toLowerCase();
  const further = lower === "s" ? "\u017f" : lower === "k" ? "\u212a" : "";
  return `[${lower}${lower.toUpperCase()}${further}]`;
}

/** Splits a text into the parts that match and those between, as the Rust library does: neither is empty but for a match. */
export function partsOf(text: string, pattern: RegExp): Part[] {
  const parts: Part[] = [];
  if (text === "") return parts; // in which the library finds nothing, an empty match neither
  let end = 0;
  for (const match of text.matchAll(pattern)) {
    // Oniguruma's iterator takes no empty match right behind a match.
    if (match[0] === "" && match.index === end && parts.length > 0) continue;
    if (match.index > end) parts.push({ text: text.slice(end, match.index), matches: false });
    parts.push({ text: match[0], matches: true });
    end = match.index + match[0].length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), matches: false });
  return parts;
}

/** A text's pieces: what comes of its parts; none is empty. */
export function join(parts: readonly Part[], behavior: Behavior): string[] {
  let pieces: string[] = [];
  if (behavior === "MergedWithNext") {
    let previous = false;
    for (const { text, matches } of parts.toReversed()) {
      if (matches && !previous && pieces.length > 0) pieces[pieces.length - 1] = text + pieces.at(-1)!;
      else pieces.push(text);
      previous = matches;
    }
    pieces.reverse();
  } else if (behavior === "MergedWithPrevious" || behavior === "Contiguous") {
    let previous = false;
    for (const { text, matches } of parts) {
      const merged = behavior === "Contiguous" ? matches === previous : matches && !previous;
      if (merged && pieces.length > 0) pieces[pieces.length - 1] += text;
      else pieces.push(text);
      previous = matches;
    }
  } else {
    pieces = parts.filter(({ matches }) => behavior === "Isolated" || !matches).map(({ text }) => text);
  }
  return pieces.filter((piece) => piece !== "");
}

/** What splits a text at the characters of a class, with one regular expression that matches the pieces. */
export function splitAtClass(inside: string, behavior: Behavior): (text: string) => readonly string[] {
  const [at, not] = [`[${inside}]`, `[^${inside}]`];
  const sources: Record<Behavior, string> = {
    Removed: `${not}+`,
    Isolated: `${not}+|${at}`,
    MergedWithPrevious: `${not}+${at}?|${at}`,
    MergedWithNext: `${at}?${not}+|${at}`,
    Contiguous: `${not}+|${at}+`,
  };
  return matcher(new RegExp(sources[behavior], "gu"));
}

/** What gives all matches of a regular expression that has the flag `g`. */
export function matcher(pattern: RegExp): (text: string) => readonly string[] {
  return (text) => text.match(pattern) ?? [];
}
