import fc from "fast-check";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { readModel } from "../../src/preference/tokens/models.ts";
import { readNormalizer } from "../../src/preference/tokens/normalizers.ts";
import { readPreTokenizer } from "../../src/preference/tokens/pre_tokenizers.ts";
import { TextTokenizer } from "../../src/preference/tokens/text_tokenizer.ts";
import { WordCache } from "../../src/preference/tokens/_word_cache.ts";
import { VALUES } from "../reference/values.ts";
import { byteLevel, type Files, sentencepiece } from "./_tokenizers.ts";

const styles: [string, Files][] = [
  [
    "sentencepiece with merges across a space",
    sentencepiece(["a b", "ab \u2581", "\u2581 c", "\u2581 \u2581"]),
  ],
  ["spaces before bytes", {
    ...byteLevel(["a b", "\u0120 a"], []),
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
  }],
  ["digits before bytes", {
    ...byteLevel(["a b", "1 2"], []),
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Digits", individual_digits: true },
        { type: "ByteLevel", add_prefix_space: false, use_regex: true },
      ],
    },
  }],
];
for (const style of ["llama3", "qwen2", "llama2", "mistral", "phi3", "gemma", "gpt2"]) {
  styles.push([style, JSON.parse(await readFile(`${VALUES}/tokens/${style}/tokenizer.json`, "utf8"))]);
}

const word = fc.constantFrom(
  "a",
  "ab",
  "abc",
  "c",
  "12",
  "1",
  ".",
  "\n",
  "\u2581",
  "\u00fc",
  "\u{1f600}",
  "<s>",
);
const spaces = fc.constantFrom("", " ", " ", "  ", "\t");
const text = fc.array(fc.tuple(spaces, word), { maxLength: 60 }).map((parts) => parts.flat().join(""));

/** Tokens of a text by the steps alone: no word is kept, none is divided. */
function withoutCache(json: Files): (text: string) => number[] {
  const { splits, spell } = json.pre_tokenizer
    ? readPreTokenizer(json.pre_tokenizer)
    : { splits: [], spell: null };
  const normalize = json.normalizer ? readNormalizer(json.normalizer) : (text: string) => text;
  const model = readModel(json.model);
  return (text) => {
    let pieces: readonly string[] = text === "" ? [] : [normalize(text, { atStart: true })];
    for (const split of splits) pieces = pieces.flatMap((piece, index) => split(piece, index === 0));
    return pieces.flatMap((piece) => model.encode(spell ? spell(piece) : piece));
  };
}

for (const [style, json] of styles) {
  Deno.test(`WordCache leaves every text its tokens: ${style}`, () => {
    const plain = withoutCache(json);
    const cached = new TextTokenizer(json, []);
    fc.assert(
      fc.property(text, fc.boolean(), (text, again) => {
        for (const one of again ? [text, text] : [text]) assert.deepEqual(cached.encode(one), plain(one));
      }),
      { numRuns: 300 },
    );
  });
}

Deno.test("WordCache keeps no more than it may, and forgets to no harm", () => {
  const json = byteLevel(["a b"], []);
  const plain = withoutCache(json);
  const cached = new TextTokenizer(json, []);
  const letters = (number: number) =>
    number.toString(26).replace(/\d/g, (digit) => "qrstuvwxyz"[Number(digit)]!);
  for (let from = 0; from < 160_000; from += 40_000) {
    cached.encode(Array.from({ length: 40_000 }, (_, i) => letters(from + i)).join(" "));
  }
  const last = "ab abz ba x".repeat(40);
  assert.deepEqual(cached.encode(last), plain(last));
});

Deno.test("WordCache encodes a word when it first comes, and not again", () => {
  const met: string[] = [];
  const cache = new WordCache({
    splits: [(text) => text.match(/ ?[a-z]+/g) ?? []],
    encode: (word) => [met.push(word)],
  });
  assert.deepEqual(cache.encode("ab abz ab x", false), [[1], [2], [3], [4]]);
  assert.deepEqual(met, ["ab", " abz", " ab", " x"]);
  assert.deepEqual(cache.encode("ab ab x abz", false), [[1], [3], [4], [2]]);
  assert.equal(met.length, 4);
});
