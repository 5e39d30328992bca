/** Words whose tokens are kept. */
const KEPT_WORDS = 2 ** 17;
/** UTF-16 units of the longest word that is kept: longer ones hardly come again. */
const LONGEST_WORD = 64;
/** Texts whose tokens are kept: a row's prompt comes alone and before each of its responses. */
const KEPT_TEXTS = 16;

/** What the cache stands before. */
interface Steps {
  /** Each splits all pieces of the one before it; the first one is told whether the text begins as the whole text began. */
  readonly splits: readonly ((piece: string, first: boolean) => readonly string[])[];
  /** Token ids of a piece that the splits have made. */
  encode(piece: string): readonly number[];
}

/**
 * Keeps the tokens of the words that were met, and of the last texts between special tokens. A data set has few different
 * words, and to spell one in bytes and merge them takes much longer than to look it up.
 */
export class WordCache {
  readonly #steps: Steps;
  readonly #words = new Map<string, readonly number[]>();
  /** Those that do not begin as the whole text began, then those that do. */
  readonly #texts = [0, 1].map(() => new Map<string, readonly (readonly number[])[]>());

  constructor(steps: Steps) {
    this.#steps = steps;
  }

  /**
   * Token ids of a text, word by word.
   *
   * @param first whether it begins as the whole text began, for the steps that ask
   */
  encode(text: string, first: boolean): readonly (readonly number[])[] {
    if (text.length <= LONGEST_WORD) return this.#split(text, first);
    const texts = this.#texts[Number(first)]!;
    const known = texts.get(text);
    if (known) return known;
    const words = this.#split(text, first);
    if (texts.size === KEPT_TEXTS) texts.delete(texts.keys().next().value!);
    texts.set(text, words);
    return words;
  }

  #split(text: string, first: boolean): readonly (readonly number[])[] {
    let pieces: readonly string[] = [text];
    for (const split of this.#steps.splits) {
      pieces = pieces.length === 1
        ? split(pieces[0]!, first)
        : pieces.flatMap((piece) => split(piece, false));
    }
    return pieces.map((piece) => this.#word(piece));
  }

  #word(word: string): readonly number[] {
    const known = this.#words.get(word);
    if (known) return known;
    const ids = this.#steps.encode(word);
    if (this.#words.size === KEPT_WORDS) this.#words.clear();
    if (word.length <= LONGEST_WORD) this.#words.set(word, ids);
    return ids;
  }
}
