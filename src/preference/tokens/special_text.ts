import { Trie } from "./_trie.ts";
import type { Searched } from "./added_vocabulary.ts";

/**
 * Finds special tokens that a text spells, be it with what stands behind it, and of each a character that says so: without
 * this one it is another text.
 */
export class SpecialText {
  readonly #trie: Trie;
  readonly #beginning: RegExp | null;
  readonly #longest: number;
  /** Of each token, where in it that character stands. */
  readonly #telling: readonly number[];
  readonly #normalize: (text: string) => string;
  /** Of tokens that are searched for in normalised text: what they are without spaces around them. */
  readonly #normalized: readonly string[];
  readonly #normalizedCharacters = new Map<string, string>();

  /** @param specials special tokens alone */
  constructor(specials: readonly Searched[], normalize: (text: string) => string) {
    const plain = specials.filter(({ normalized }) => !normalized).map(({ content }) => content);
    this.#trie = new Trie(plain.reduce((sum, { length }) => sum + length, 0));
    for (const [index, content] of plain.entries()) this.#trie.set(content, index);
    const units = new Set(
      plain.map((content) => `\\u${content.charCodeAt(0).toString(16).padStart(4, "0")}`),
    );
    this.#beginning = units.size === 0 ? null : new RegExp(`[${[...units].join("")}]`, "g");
    this.#longest = Math.max(0, ...plain.map(({ length }) => length));
    this.#telling = plain.map(telling);
    this.#normalize = normalize;
    this.#normalized = specials.filter(({ normalized }) => normalized)
      .map(({ searched }) => searched.replace(/^[\u2581\s]+|[\u2581\s]+$/g, "") || searched);
  }

  /** Places of these characters in a text, in UTF-16 units from its start, ascending. */
  places(text: string): number[] {
    const places = new Set<number>();
    const beginning = this.#beginning;
    if (beginning !== null) {
      beginning.lastIndex = 0;
      for (;;) {
        const start = beginning.exec(text)?.index;
        if (start === undefined) break;
        beginning.lastIndex = start + 1;
        this.#trie.find(text, start, (_, index) => places.add(start + this.#telling[index]!));
        const isNearEnd = start > text.length - this.#longest;
        if (isNearEnd && this.#trie.isBeginning(text, start)) places.add(start + telling(text.slice(start)));
      }
    }
    this.#addNormalized(text, places);
    return [...places].sort((a, b) => a - b);
  }

  /** What normalises to a token may be spelled otherwise: every character that gives the one that tells. */
  #addNormalized(text: string, places: Set<number>): void {
    if (this.#normalized.length === 0) return;
    const whole = this.#normalize(text);
    for (const token of this.#normalized) {
      if (!whole.includes(token)) continue;
      const told = String.fromCodePoint(token.codePointAt(telling(token))!);
      let at = 0;
      for (const character of text) {
        let normalized = this.#normalizedCharacters.get(character);
        if (normalized === undefined) {
          this.#normalizedCharacters.set(character, normalized = this.#normalize(character));
        }
        if (normalized.includes(told)) places.add(at);
        at += character.length;
      }
    }
  }
}

/** A sign rather than a letter, rather not one that HTML or JSON escape; white space where there is nothing else. */
function telling(token: string): number {
  for (const wanted of [/[^\s\p{L}\p{N}_&<>"'\\]/u, /[^\s\p{L}\p{N}_]/u, /\S/u]) {
    const at = token.search(wanted);
    if (at >= 0) return at;
  }
  return 0;
}
