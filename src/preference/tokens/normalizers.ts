/**
 * What a text goes through before it is split, as tokenizer.json's `normalizer` says.
 *
 * @module
 */
import { spellBytes } from "./_byte_characters.ts";
import { WHITE_SPACE } from "./_characters.ts";
import { flag, type Json, readList, readTyped, text as textField } from "./_fields.ts";
import { partsOf, readPattern } from "./_pattern.ts";
import { readPrecompiled } from "./precompiled.ts";

/** What is known of a text's place. */
export interface Place {
  /** Whether the text's first character still is what the whole text began with, or was put before it. */
  atStart: boolean;
  /** How many characters were put before it. */
  inserted?: number;
}

/** Says that characters were put before a text. */
function insert(place: Place, text: string): void {
  place.inserted = (place.inserted ?? 0) + Array.from(text).length;
}

/** Says that a text's first characters were taken away. */
function takeAway(place: Place, count: number): void {
  const { inserted = 0 } = place;
  if (count > inserted) place.atStart = false;
  place.inserted = Math.max(inserted - count, 0);
}

/** A text as it is split and encoded; says in `place` where the first character was taken away. */
export type Normalizer = (text: string, place: Place) => string;

/** Reads a `normalizer`. @throws {InputError} naming the field at fault */
export function readNormalizer(json: unknown): Normalizer {
  return readTyped("normalizer", json, READERS);
}

const READERS: Readonly<Record<string, (json: Json) => Normalizer>> = {
  Sequence: (json) => {
    const all = readList(json, "normalizers", readNormalizer);
    return (text, place) => all.reduce((text, normalize) => normalize(text, place), text);
  },
  NFC: () => (text) => text.normalize("NFC"),
  NFD: () => (text) => text.normalize("NFD"),
  NFKC: () => (text) => text.normalize("NFKC"),
  NFKD: () => (text) => text.normalize("NFKD"),
  Lowercase: () => lowercase,
  Strip: (json) => {
    const left = flag(json, "strip_left") ? removal(new RegExp(`^[${WHITE_SPACE}]+`, "u")) : null;
    const right = flag(json, "strip_right") ? new RegExp(`[${WHITE_SPACE}]+$`, "u") : null;
    return (text, place) => {
      const stripped = left ? left(text, place) : text;
      return right ? stripped.replace(right, "") : stripped;
    };
  },
  StripAccents: () => removal(/\p{M}/gu),
  Replace: (json) => {
    const pattern = readPattern(json);
    const content = textField(json, "content");
    return (text, place) => {
      const parts = partsOf(text, pattern);
      if (parts[0]?.matches) {
        const taken = Array.from(parts[0].text).length;
        // One character for another stands where it stood; of several the last is what the library goes by.
        if (taken > 1 || content === "") takeAway(place, taken);
        if (taken === 0) insert(place, content);
      }
      return parts.map((part) => part.matches ? content : part.text).join("");
    };
  },
  Prepend: (json) => {
    const prepended = textField(json, "prepend");
    return (text, place) => {
      if (text === "") return text;
      insert(place, prepended);
      return prepended + text;
    };
  },
  Nmt: () => {
    // deno-lint-ignore no-control-regex
    const remove = removal(/[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/gu);
    const spaces = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/gu;
    return (text, place) => remove(text, place).replace(spaces, " ");
  },
  ByteLevel: () => spellBytes,
  BertNormalizer: (json) => {
    const lower = flag(json, "lowercase");
    const steps: Normalizer[] = [];
    if (flag(json, "clean_text")) {
      const control = removal(/(?![\t\n\r])[\0\ufffd\p{Cc}\p{Cf}\p{Co}]/gu);
      const space = new RegExp(`[${WHITE_SPACE}]`, "gu");
      steps.push((text, place) => control(text, place).replace(space, " "));
    }
    if (flag(json, "handle_chinese_chars")) {
      steps.push((text, place) => {
        if (text.search(CHINESE) === 0) insert(place, " ");
        return text.replace(CHINESE, " $& ");
      });
    }
    if (flag(json, "strip_accents", lower)) {
      const accents = removal(/\p{Mn}/gu);
      steps.push((text, place) => accents(text.normalize("NFD"), place));
    }
    if (lower) steps.push(lowercase);
    return (text, place) => steps.reduce((text, step) => step(text, place), text);
  },
  Precompiled: readPrecompiled,
};

/** The ideographs that BERT puts spaces around. */
const CHINESE = new RegExp(
  "[\\u4e00-\\u9fff\\u3400-\\u4dbf\\u{20000}-\\u{2a6df}\\u{2a700}-\\u{2b73f}\\u{2b740}-\\u{2b81f}" +
    "\\u{2b920}-\\u{2ceaf}\\uf900-\\ufaff\\u{2f800}-\\u{2fa1f}]",
  "gu",
);

/** Character by character: JavaScript looks at a sigma's neighbours. */
function lowercase(text: string): string {
  return text.includes("\u03a3") ? Array.from(text, (c) => c.toLowerCase()).join("") : text.toLowerCase();
}

function removal(pattern: RegExp): Normalizer {
  return (text, place) => {
    const left = text.replace(pattern, "");
    if (left.length !== text.length && text.search(pattern) === 0) {
      let end = 0; // of what is taken away at the start
      for (const match of text.matchAll(new RegExp(pattern, "gu"))) {
        if (match.index > end) break;
        end += match[0].length;
      }
      takeAway(place, Array.from(text.slice(0, end)).length);
    }
    return left;
  };
}
