import { within } from "../../errors.ts";
import type { Json } from "./_fields.ts";
import { WordCache } from "./_word_cache.ts";
import {
  type AddedToken,
  AddedVocabulary,
  type Part,
  type Passed,
  type Searched,
} from "./added_vocabulary.ts";
import { type Decoder, readDecoder } from "./decoders.ts";
import { type Model, readModel } from "./models.ts";
import { type Normalizer, type Place, readNormalizer } from "./normalizers.ts";
import { readPostProcessor } from "./post_processor.ts";
import { type PreTokenizer, readPreTokenizer } from "./pre_tokenizers.ts";
import { SpecialText } from "./special_text.ts";

/** Which tokens a text may ask for. */
export interface EncodeOptions {
  /** Special tokens written out in the text are text, as in one that is not trusted. */
  readonly split_special_tokens?: boolean | undefined;
  /**
   * Places in the text, in UTF-16 units, ascending: special tokens that cover one of them are text, the others tokens. In
   * place of `split_special_tokens`.
   */
  readonly literal?: readonly number[] | undefined;
}

/**
 * A tokenizer as tokenizer.json describes it: added tokens are taken out of the text, what is left is normalised, added
 * tokens that are searched for in normalised text are taken out, and the rest is split into pieces that the model encodes.
 *
 * It gives what the Rust library tokenizers gives, or throws. Half a surrogate pair becomes U+FFFD.
 */
export class TextTokenizer {
  /** What the post-processor puts before a text. */
  readonly prefix: readonly number[];
  /** Highest token id + 1. */
  readonly vocabSize: number;
  readonly #model: Model;
  readonly #normalizer: Normalizer | null;
  readonly #pieces: PreTokenizer;
  readonly #decoder: Decoder | null;
  readonly #words: WordCache;
  /** Added tokens by content, and of each what it is searched for and decoded by. */
  readonly #added: ReadonlyMap<string, Searched>;
  readonly #before: AddedVocabulary;
  readonly #behind: AddedVocabulary;
  #specials: SpecialText | null = null;
  #texts: Map<number, string> | null = null;

  /**
   * @param json of tokenizer.json
   * @param added its added tokens and those of the files beside it, with ids
   * @throws {InputError} naming the component that is not known or the field at fault
   */
  constructor(json: Json, added: readonly (AddedToken & { readonly id: number })[]) {
    const read = <T>(field: string, read: (json: unknown) => T): T | null =>
      json[field] == null ? null : within([field], () => read(json[field]));
    this.#model = within(["model"], () => readModel(json["model"]));
    this.#normalizer = read("normalizer", readNormalizer);
    this.#pieces = read("pre_tokenizer", readPreTokenizer) ??
      { splits: [], spell: null, asksForFirst: false };
    this.#decoder = read("decoder", readDecoder);
    this.prefix = read("post_processor", readPostProcessor) ?? [];
    const searched = added.map((token) => ({
      ...token,
      searched: token.normalized ? this.#normalize(token.content, { atStart: true }) : token.content,
    }));
    this.#added = new Map(searched.map((token) => [token.content, token]));
    this.#before = new AddedVocabulary(searched.filter(({ normalized }) => !normalized));
    this.#behind = new AddedVocabulary(searched.filter(({ normalized }) => normalized));
    let highest = -1;
    for (const id of this.#model.vocabulary.values()) highest = Math.max(highest, id);
    for (const { id } of added) highest = Math.max(highest, id);
    this.vocabSize = highest + 1;
    // It knows a piece as the model takes it.
    const divide = this.#pieces.spell === null ? this.#model.divide : undefined;
    this.#words = new WordCache({
      splits: divide ? [...this.#pieces.splits, divide] : this.#pieces.splits,
      encode: (piece) => this.#model.encode(this.#pieces.spell ? this.#pieces.spell(piece) : piece),
    });
  }

  /** Token ids of a text. @throws {InputError} where the model has no token for a part of it */
  encode(text: string, { split_special_tokens = false, literal }: EncodeOptions = {}): number[] {
    const ids: number[] = [];
    const passed = literal ?? split_special_tokens;
    for (const [index, part] of this.#before.split(text.toWellFormed(), passed).entries()) {
      if (typeof part === "number") ids.push(part);
      else this.#encodePart(part, index === 0, passed, ids);
    }
    return ids;
  }

  /**
   * Of each special token that a text spells, or that it ends in the midst of, the place of a character in UTF-16 units,
   * ascending: as long as another stands there the text holds no such token.
   */
  specialPlaces(text: string): number[] {
    this.#specials ??= new SpecialText(
      [...this.#added.values()].filter(({ special }) => special),
      (text) => this.#normalize(text, { atStart: false }),
    );
    return this.#specials.places(text);
  }

  #encodePart(part: Part, first: boolean, passed: Passed, ids: number[]): void {
    const place = { atStart: first };
    const normalized = this.#normalize(part.text, place);
    const passedHere = typeof passed === "boolean" ? passed : this.#passedIn(part, passed);
    for (const [index, piece] of this.#behind.split(normalized, passedHere).entries()) {
      if (typeof piece === "number") {
        ids.push(piece);
      } else {
        const atStart = this.#pieces.asksForFirst && place.atStart && index === 0;
        for (const word of this.#words.encode(piece.text, atStart)) {
          for (const id of word) ids.push(id);
        }
      }
    }
  }

  /** The places that a part has, in its normalised text. */
  #passedIn({ text, at }: Part, places: readonly number[]): Passed {
    if (!this.#behind.hasSpecial) return false;
    return places.filter((place) => place >= at && place < at + text.length).map((place) => {
      const end = place - at + (text.codePointAt(place - at)! > 0xffff ? 2 : 1);
      // No white space stands there, which could go away at an end.
      return this.#normalize(text.slice(0, end), { atStart: false }).length - 1;
    });
  }

  /** Text of token ids, special tokens included. */
  decode(ids: Iterable<number>): string {
    const tokens: string[] = [];
    for (const id of ids) {
      const token = this.token(id);
      if (token !== undefined) tokens.push(token);
    }
    if (tokens.length === 0) return "";
    return this.#decoder === null ? tokens.join(" ") : this.#decoder(tokens).join("");
  }

  /** A token as the decoder takes it, undefined where the id has none. */
  token(id: number): string | undefined {
    if (this.#texts === null) {
      this.#texts = new Map();
      for (const [text, id] of this.#model.vocabulary) this.#texts.set(id, text);
      for (const { id, searched } of this.#added.values()) this.#texts.set(id, searched);
    }
    return this.#texts.get(id);
  }

  /** A token's id, by its content. */
  idOf(content: string): number | undefined {
    return this.#added.get(content)?.id ?? this.#model.vocabulary.get(content);
  }

  #normalize(text: string, place: Place): string {
    return this.#normalizer === null ? text : this.#normalizer(text, place);
  }
}
