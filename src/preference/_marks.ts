import { InputError } from "../errors.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Characters that print as they are and have no case, signs first, then letters: stand-ins, where a row has none of them. */
const SIGNS = [[0x2800, 0x28ff], [0x4dc0, 0x4dff]] as const;
const LETTERS = [[0xa000, 0xa48c], [0xac00, 0xd7a3]] as const;
const SPACES = [[0x2000, 0x200a]] as const;

/** Words that templates ask for and print between the parts of a special token: `<|user|>`. */
const WORD = /^[\w-]*$/;
/** Fields that hold such words. */
const NAMING = ["role", "type"];

/**
 * A row's texts with a stand-in for a character of every special token that they spell, so that these can be told from the
 * ones that the template writes around them. The stand-in is of the same kind: what a template trims, measures and splits
 * stays the same.
 */
export class Marks {
  readonly #standIns = new Map<string, string>();
  readonly #originals = new Map<string, string>();
  /** Finds stand-ins, also where JSON has escaped them. */
  readonly #pattern: RegExp;
  readonly #tokenizer: Tokenizer;

  private constructor(tokenizer: Tokenizer, characters: ReadonlySet<string>, taken: string) {
    this.#tokenizer = tokenizer;
    for (const character of characters) {
      const ranges = /\s/u.test(character)
        ? [...SPACES, ...SIGNS]
        : /[\p{L}\p{N}_]/u.test(character)
        ? [...LETTERS, ...SIGNS]
        : [...SIGNS, ...LETTERS];
      const standIn = this.#free(ranges, taken);
      this.#standIns.set(character, standIn);
      this.#originals.set(standIn, character).set(escaped(standIn), character);
    }
    this.#pattern = new RegExp(
      [...this.#originals.keys()].map((key) => key.replace("\\", "\\\\")).join("|"),
      "g",
    );
  }

  /**
   * Marks for what a row says.
   *
   * @param beside what else may be written, in which no stand-in may be
   * @returns null where no text of it spells a special token
   * @throws {InputError} where the row has every character that could stand in
   */
  static for(tokenizer: Tokenizer, row: unknown, beside: unknown): Marks | null {
    const characters = new Set<string>();
    mapTexts(row, (text, isName) => {
      for (const at of placesIn(tokenizer, text, isName)) characters.add(characterAt(text, at));
      return text;
    });
    if (characters.size === 0) return null;
    return new Marks(tokenizer, characters, JSON.stringify([row, beside]).toLowerCase());
  }

  /** A value of the row with stand-ins in its texts. */
  mark<T>(value: T): T {
    return mapTexts(value, (text, isName) => {
      let marked = "";
      let done = 0;
      for (const at of placesIn(this.#tokenizer, text, isName)) {
        const character = characterAt(text, at);
        marked += text.slice(done, at) + this.#standIns.get(character)!;
        done = at + character.length;
      }
      return marked + text.slice(done);
    });
  }

  /** A value without stand-ins. */
  unmark<T>(value: T): T {
    return mapTexts(value, (text) => text.replace(this.#pattern, (found) => this.#originals.get(found)!));
  }

  /** A text without stand-ins, and where they stood. */
  read(marked: string): { readonly text: string; readonly literal: readonly number[] } {
    const literal: number[] = [];
    let text = "";
    let done = 0;
    for (const { 0: found, index } of marked.matchAll(this.#pattern)) {
      text += marked.slice(done, index);
      literal.push(text.length);
      text += this.#originals.get(found)!;
      done = index + found.length;
    }
    return { text: text + marked.slice(done), literal };
  }

  /** An error that speaks of what the row says. */
  unmarkError(error: unknown): unknown {
    if (!(error instanceof InputError)) return error;
    const { sentence, problem, context } = error;
    return new InputError(this.unmark(sentence), this.unmark(problem), context);
  }

  #free(ranges: readonly (readonly [number, number])[], taken: string): string {
    for (const [first, last] of ranges) {
      for (let code = first; code <= last; code++) {
        const character = String.fromCharCode(code);
        const isUsed = this.#originals.has(character) || taken.includes(character) ||
          taken.includes(escaped(character));
        if (!isUsed) return character;
      }
    }
    throw new InputError("There is no character left that the row does not have.", {
      path: ["split_special_tokens"],
      accepted: "a row without some Braille, Yi and Hangul characters",
    });
  }
}

/** Places to mark. A role that is no word may not give a template's signs another meaning either. */
function placesIn(tokenizer: Tokenizer, text: string, isName: boolean): readonly number[] {
  if (!isName) return tokenizer.specialPlaces(text);
  if (WORD.test(text)) return [];
  return Array.from(text.matchAll(/[^\s\w-]/gu), ({ index }) => index);
}

/** A value of JSON with other texts, keys among them. */
function mapTexts<T>(value: T, change: (text: string, isName: boolean) => string, isName = false): T {
  if (typeof value === "string") return change(value, isName) as T;
  if (Array.isArray(value)) return value.map((entry) => mapTexts(entry, change)) as T;
  if (value === null || typeof value !== "object" || Object.getPrototypeOf(value) !== Object.prototype) {
    return value;
  }
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [
      WORD.test(key) ? key : change(key, false),
      mapTexts(entry, change, NAMING.includes(key)),
    ]),
  ) as T;
}

function characterAt(text: string, at: number): string {
  return String.fromCodePoint(text.codePointAt(at)!);
}

/** As JSON in ASCII has it. */
function escaped(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16)}`;
}
