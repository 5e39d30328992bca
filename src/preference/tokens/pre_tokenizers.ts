/**
 * How a normalised text is split into the pieces that the model encodes, as tokenizer.json's `pre_tokenizer` says.
 *
 * @module
 */
import { InputError } from "../../errors.ts";
import { spellBytes } from "./_byte_characters.ts";
import { NUMERIC, PUNCTUATION, WHITE_SPACE, WORD } from "./_characters.ts";
import { character, count, flag, type Json, readList, readTyped, word } from "./_fields.ts";
import { BEHAVIORS, join, matcher, onigurumaRegExp, partsOf, readPattern, splitAtClass } from "./_pattern.ts";

/** Splits a piece; `first` says that what the whole text began with begins it. None of the results is empty. */
export type Split = (piece: string, first: boolean) => readonly string[];

/** Steps of a pre-tokenizer, each for all pieces that the one before it gives. */
export interface PreTokenizer {
  readonly splits: readonly Split[];
  /** Rewrites a piece at the end, which says nothing of how it is split: done only to what the model has not met. */
  readonly spell: ((piece: string) => string) | null;
  /** Whether it matters to a step what the text began with. */
  readonly asksForFirst: boolean;
}

/** Reads a `pre_tokenizer`. @throws {InputError} naming the field at fault */
export function readPreTokenizer(json: unknown): PreTokenizer {
  return readTyped("pre-tokenizer", json, READERS);
}

/** GPT-2's. */
const GPT2 = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const SCHEMES = ["first", "never", "always"] as const;

const READERS: Readonly<Record<string, (json: Json) => PreTokenizer>> = {
  Sequence: (json) => {
    const all = readList(json, "pretokenizers", readPreTokenizer);
    const last = all.at(-1);
    const late = all.findIndex(({ asksForFirst }, index) => asksForFirst && index > 0);
    if (late > 0) {
      throw new InputError((place) => `${place} "first" is not known here behind another pre-tokenizer.`, {
        path: ["pretokenizers", late, "prepend_scheme"],
        value: "first",
        accepted: '"always" or "never", or a Metaspace that comes first',
      });
    }
    return {
      splits: all.flatMap(({ splits, spell }, index) =>
        spell && index < all.length - 1 ? [...splits, (piece: string) => [spell(piece)]] : splits
      ),
      spell: last?.spell ?? null,
      asksForFirst: all[0]?.asksForFirst ?? false,
    };
  },
  ByteLevel: (json) => {
    const splits: Split[] = [];
    if (flag(json, "add_prefix_space")) splits.push((piece) => [piece.startsWith(" ") ? piece : ` ${piece}`]);
    if (flag(json, "use_regex", true)) splits.push(splitBy(onigurumaRegExp(GPT2)));
    return { splits, spell: spellBytes, asksForFirst: false };
  },
  Split: (json) => {
    const pattern = readPattern(json);
    const behavior = word(json, "behavior", BEHAVIORS);
    if (behavior === "Isolated") return plain(splitBy(pattern));
    const invert = flag(json, "invert");
    return plain((piece) => {
      const parts = partsOf(piece, pattern);
      return join(invert ? parts.map(({ text, matches }) => ({ text, matches: !matches })) : parts, behavior);
    });
  },
  Metaspace: (json) => {
    const space = character(json, "replacement");
    const scheme = word(json, "prepend_scheme", SCHEMES, "always");
    // An older spelling of "never".
    const never = scheme === "never" || json["add_prefix_space"] === false;
    if (never && scheme !== "never" && json["prepend_scheme"] !== undefined) {
      throw new InputError((place) => `${place} is false beside prepend_scheme ${scheme}.`, {
        path: ["add_prefix_space"],
        accepted: "prepend_scheme alone",
      });
    }
    const split = flag(json, "split", true) ? splitAtClass(classOf(space), "MergedWithNext") : null;
    return {
      splits: [(piece, first) => {
        let spaced = piece.replaceAll(" ", () => space);
        const asked = !never && (scheme === "always" || first);
        if (asked && !spaced.startsWith(space)) spaced = space + spaced;
        return split ? split(spaced) : [spaced];
      }],
      spell: null,
      asksForFirst: !never && scheme === "first",
    };
  },
  Whitespace: () => plain(matcher(new RegExp(`[${WORD}]+|[^${WORD}${WHITE_SPACE}]+`, "gu"))),
  WhitespaceSplit: () => plain(splitAtClass(WHITE_SPACE, "Removed")),
  BertPreTokenizer: () => ({
    splits: [splitAtClass(WHITE_SPACE, "Removed"), splitAtClass(PUNCTUATION, "Isolated")],
    spell: null,
    asksForFirst: false,
  }),
  Punctuation: (json) => plain(splitAtClass(PUNCTUATION, word(json, "behavior", BEHAVIORS, "Isolated"))),
  Digits: (json) => plain(splitAtClass(NUMERIC, flag(json, "individual_digits") ? "Isolated" : "Contiguous")),
  CharDelimiterSplit: (json) => plain(splitAtClass(classOf(character(json, "delimiter")), "Removed")),
  FixedLength: (json) => plain(matcher(new RegExp(`.{1,${count(json, "length", 1, 5)}}`, "gsu"))),
};

function plain(split: Split): PreTokenizer {
  return { splits: [split], spell: null, asksForFirst: false };
}

/** A character as a class of regular expressions has it. */
function classOf(character: string): string {
  return `\\u{${character.codePointAt(0)!.toString(16)}}`;
}

/** Splits at both ends of each match. */
function splitBy(pattern: RegExp): Split {
  return (piece) => {
    const matches = piece.match(pattern);
    if (matches === null) return [piece];
    // Mostly the matches are all that there is, and a pattern without empty matches gives the pieces.
    let length = 0;
    let empty = false;
    for (const match of matches) {
      length += match.length;
      empty ||= match === "";
    }
    return length === piece.length && !empty ? matches : join(partsOf(piece, pattern), "Isolated");
  };
}
