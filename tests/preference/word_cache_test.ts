import { Tokenizer } from "@huggingface/tokenizers";
import fc from "fast-check";
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { cacheWords } from "../../src/preference/_word_cache.ts";
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

for (const [style, json] of styles) {
  Deno.test(`cacheWords() leaves every text its tokens: ${style}`, () => {
    const plain = new Tokenizer(json, {});
    const cached = new Tokenizer(json, {});
    cacheWords(cached);
    fc.assert(
      fc.property(text, fc.boolean(), (text, again) => {
        for (const one of again ? [text, text] : [text]) {
          assert.deepEqual(cached.encode(one).ids, plain.encode(one).ids);
        }
      }),
      { numRuns: 300 },
    );
  });
}

Deno.test("cacheWords() keeps no more than it may, and forgets to no harm", () => {
  const json = byteLevel(["a b"], []);
  const plain = new Tokenizer(json, {});
  const cached = new Tokenizer(json, {});
  cacheWords(cached);
  const letters = (number: number) =>
    number.toString(26).replace(/\d/g, (digit) => "qrstuvwxyz"[Number(digit)]!);
  for (let from = 0; from < 160_000; from += 40_000) {
    cached.encode(Array.from({ length: 40_000 }, (_, i) => letters(from + i)).join(" "));
  }
  const last = "ab abz ba x".repeat(40);
  assert.deepEqual(cached.encode(last).ids, plain.encode(last).ids);
});

Deno.test("cacheWords() merges a word when it first comes, and not again", () => {
  const cached = new Tokenizer(byteLevel(["a b"], []), {});
  const model = cached.model!;
  const encode = model.encode.bind(model);
  const merged: string[] = [];
  model.encode = (words) => {
    merged.push(...words);
    return encode(words);
  };
  cacheWords(cached);
  cached.encode("ab abz ab x");
  const words = merged.length;
  assert.ok(words > 0);
  assert.equal(new Set(merged).size, words);
  cached.encode("x abz ab ab");
  assert.equal(new Set(merged).size, merged.length); // "x" has no space before it now, and the first "ab" had none
});
