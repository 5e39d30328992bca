/** Capital and small letters, as Python's `str` has them. */
import { chargeSearch, chargeText } from "./budget.ts";
import { pointsOf, titleOf } from "./text.ts";

/** Cased letters; JavaScript names the derived properties alone. */
const UPPER = /\p{Uppercase}/u;
const LOWER = /\p{Lowercase}/u;
const TITLE = /\p{Lt}/u;
const CASED = /[\p{Uppercase}\p{Lowercase}\p{Lt}]/u;

export function upper(text: string): string {
  chargeText(text.length);
  return text.toUpperCase();
}

export function lower(text: string): string {
  chargeText(text.length);
  return text.toLowerCase();
}

export function casefold(text: string): string {
  chargeText(text.length);
  // full case folding: what differs from small letters becomes the same through capitals
  return text.replace(
    /[^]/gu,
    (letter) => /\p{Changes_When_Casefolded}/u.test(letter) || isSpelledOut(letter) ? foldOf(letter) : letter,
  );
}

/** Whether a letter's capital is several, as U+01F0's, or it is U+1FBE: Unicode calls these changed only once taken apart. */
function isSpelledOut(letter: string): boolean {
  return letter === "\u1fbe" || letter.toUpperCase().length > letter.length;
}

function foldOf(letter: string): string {
  if (letter === "\u1e9e") return "ss";
  if (/[\u13f8-\u13fd\uab70-\uabbf]/.test(letter)) return letter.toUpperCase(); // Cherokee folds to capitals
  if (/[\u13a0-\u13f5]/.test(letter)) return letter;
  return letter.toUpperCase().toLowerCase().replaceAll("\u03c2", "\u03c3");
}

export function capitalize(text: string): string {
  chargeText(text.length);
  const [first = ""] = text;
  // the rest is made small as part of the whole, as a sigma is another at a word's end
  return titleOf(first) + text.toLowerCase().slice(first.toLowerCase().length);
}

export function title(text: string): string {
  let inWord = false;
  const small = text.toLowerCase().length === text.length ? text.toLowerCase() : null;
  let at = 0;
  chargeText(text.length);
  return pointsOf(text).map((letter) => {
    const lower = small?.slice(at, at += letter.length) ?? letter.toLowerCase();
    const result = inWord ? lower : titleOf(letter);
    inWord = CASED.test(letter);
    return result;
  }).join("");
}

export function swapcase(text: string): string {
  chargeText(text.length);
  const small = text.toLowerCase();
  let at = 0;
  return pointsOf(text).map((letter) => {
    const lower = small.length === text.length ? small.slice(at, at += letter.length) : letter.toLowerCase();
    return UPPER.test(letter) ? lower : LOWER.test(letter) ? letter.toUpperCase() : letter;
  }).join("");
}

export function isUpper(text: string): boolean {
  chargeSearch(text.length);
  return UPPER.test(text) && !LOWER.test(text) && !TITLE.test(text);
}

export function isLower(text: string): boolean {
  chargeSearch(text.length);
  return LOWER.test(text) && !UPPER.test(text) && !TITLE.test(text);
}

export function isTitle(text: string): boolean {
  let inWord = false;
  let found = false;
  for (const letter of pointsOf(text)) {
    const isUpper = UPPER.test(letter) || TITLE.test(letter);
    if (isUpper ? inWord : LOWER.test(letter) && !inWord) return false;
    inWord = CASED.test(letter);
    found ||= inWord;
  }
  return found;
}
