import { InputError } from "../../errors.ts";
import { WHITE_SPACE, WORD } from "./_characters.ts";
import { Trie } from "./_trie.ts";

/** A token that a text is searched for, as tokenizer.json has it. */
export interface AddedToken {
  readonly content: string;
  /** Found as a whole word alone. */
  readonly single_word: boolean;
  /** White space before it belongs to it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Searched for in the normalised text. */
  readonly normalized: boolean;
  readonly special: boolean;
}

/** What an added token is searched for by, and its id. */
export interface Searched extends AddedToken {
  readonly id: number;
  /** Its content, or what the normalizer makes of it. */
  readonly searched: string;
}

/** A text between added tokens. */
export interface Part {
  readonly text: string;
  /** Where it begins in the whole, in UTF-16 units. */
  readonly at: number;
}

/** Where special tokens stay text: everywhere, nowhere, or where they cover one of these places (units, ascending). */
export type Passed = boolean | readonly number[];

const STARTS_WITH_WORD = new RegExp(`^[${WORD}]`, "u");
const SPACE = new RegExp(`[${WHITE_SPACE}]`, "u");

/** Finds added tokens in a text: of those that begin at one place the longest, then on from its end. */
export class AddedVocabulary {
  /** Whether one of the tokens is special. */
  readonly hasSpecial: boolean;
  readonly #tokens: readonly Searched[];
  readonly #trie: Trie;
  /** Finds a unit that some token begins with. */
  readonly #beginning: RegExp | null;

  constructor(tokens: readonly Searched[]) {
    this.hasSpecial = tokens.some(({ special }) => special);
    this.#tokens = tokens;
    this.#trie = new Trie(tokens.reduce((sum, { searched }) => sum + searched.length, 0));
    const seen = new Map<string, string>();
    for (const [index, { searched, content }] of tokens.entries()) {
      const other = seen.get(searched);
      if (searched === "" || other !== undefined) {
        throw new InputError(
          (place) =>
            `${place}: the normalizer makes ${JSON.stringify(searched)} of ${JSON.stringify(content)}` +
            (other === undefined ? "." : ` and of ${JSON.stringify(other)}.`),
          { path: ["added_tokens"], value: content, accepted: "tokens that stay something, each its own" },
        );
      }
      seen.set(searched, content);
      this.#trie.set(searched, index);
    }
    const units = new Set(tokens.map(({ searched }) => `\\u${hex(searched.charCodeAt(0))}`));
    this.#beginning = units.size > 0 ? new RegExp(`[${[...units].join("")}]`, "g") : null;
  }

  /**
   * Splits a text at the tokens in it.
   *
   * @param passed where special tokens are passed over, and stay text
   * @returns texts, of which none is empty, and ids
   */
  split(text: string, passed: Passed): (Part | number)[] {
    const parts: (Part | number)[] = [];
    let done = 0;
    for (const { start, end, token } of this.#matches(text)) {
      if (token.special && passed !== false && (passed === true || isCovered(passed, start, end))) continue;
      if (token.single_word) {
        // No `$`: V8 15 does not find a class with characters past U+FFFF at a text's end.
        const before = Array.from(text.slice(Math.max(start - 2, 0), start)).at(-1) ?? "";
        if (STARTS_WITH_WORD.test(before) || STARTS_WITH_WORD.test(text.slice(end, end + 2))) continue;
      }
      let [from, to] = [start, end];
      while (token.lstrip && from > done && SPACE.test(text[from - 1]!)) from--;
      while (token.rstrip && to < text.length && SPACE.test(text[to]!)) to++;
      // What the token before took stays with it where this one looks at what is before it, and a token may be all gone.
      if (token.lstrip) from = Math.max(from, done);
      if (from >= to) continue;
      if (done < from) parts.push({ text: text.slice(done, from), at: done });
      parts.push(token.id);
      done = to;
    }
    if (done < text.length) parts.push({ text: done === 0 ? text : text.slice(done), at: done });
    return parts;
  }

  *#matches(text: string): Generator<{ start: number; end: number; token: Searched }> {
    const beginning = this.#beginning;
    if (beginning === null) return;
    let at = 0;
    for (;;) {
      beginning.lastIndex = at;
      const start = beginning.exec(text)?.index;
      if (start === undefined) return;
      let [end, index] = [start, -1];
      this.#trie.find(text, start, (to, value) => [end, index] = [to, value]);
      at = index < 0 ? start + 1 : end;
      if (index >= 0) yield { start, end, token: this.#tokens[index]! };
    }
  }
}

/** Whether one of the places, which ascend, is from `start` up to `end`. */
function isCovered(places: readonly number[], start: number, end: number): boolean {
  let [low, high] = [0, places.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! < start) low = middle + 1;
    else high = middle;
  }
  return low < places.length && places[low]! < end;
}

function hex(unit: number): string {
  return unit.toString(16).padStart(4, "0");
}
