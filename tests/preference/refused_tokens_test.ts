import assert from "node:assert/strict";
import { byteLevel, type Files, load, sentencepiece } from "./_tokenizers.ts";

const wordLevel = (unk_token: string): Files => ({
  added_tokens: [],
  pre_tokenizer: { type: "WhitespaceSplit" },
  model: { type: "WordLevel", vocab: { a: 0, b: 1, "[UNK]": 2 }, unk_token },
});
const unigram = (unk_id: number | null): Files => ({
  model: { type: "Unigram", vocab: [["a", -1], ["b", -1], ["?", -2]], unk_id },
});

Deno.test("encode() gives the unknown token's id, and refuses a text without a token where the model names none", async () => {
  assert.deepEqual((await load({ "tokenizer.json": wordLevel("[UNK]") })).encode("a x b"), [0, 2, 1]);
  assert.deepEqual((await load({ "tokenizer.json": unigram(2) })).encode("axb"), [0, 2, 1]);
  for (const json of [wordLevel("[NONE]"), unigram(null)]) {
    const { encode } = await load({ "tokenizer.json": json });
    assert.deepEqual(encode("a"), [0]);
    assert.throws(() => encode("x"), { name: "InputError", message: /no token for "x"/ });
  }
});

Deno.test("encode() of a Unigram with byte_fallback gives an unknown character's bytes", async () => {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`, -9],
  );
  const vocab = [["<unk>", 0], ["\u2581", -1], ["a", -1], ["b", -1], ["\u2581a", -1], ...bytes];
  const json = {
    pre_tokenizer: { type: "Metaspace", replacement: "\u2581", prepend_scheme: "always", split: true },
    model: { type: "Unigram", vocab, unk_id: 0, byte_fallback: true },
  };
  const { encode } = await load({ "tokenizer.json": json });
  assert.deepEqual(encode("a \u00e9 b"), [4, 1, 5 + 0xc3, 5 + 0xa9, 1, 3]);
});

Deno.test("encode() with split_special_tokens takes special tokens in a text for text, others for tokens", async () => {
  const json = byteLevel([], ["<s>"]);
  const tokens = [
    ...json.added_tokens as unknown[],
    { id: 257, content: "<t>", special: false, normalized: false },
  ];
  const files = { "tokenizer.json": { ...json, added_tokens: tokens } };
  const { encode } = await load(files);
  assert.deepEqual(encode("<s><t>"), [256, 257]);
  assert.deepEqual(encode("<s><t>", { split_special_tokens: true }), [60, 115, 62, 257]);
  // special in one of the files, or by its name, is special
  for (
    const config of [
      { added_tokens_decoder: { 256: { content: "<s>", special: false } } },
      { bos_token: "<t>", added_tokens_decoder: { 257: { content: "<t>", special: false } } },
    ]
  ) {
    const named = await load({ ...files, "tokenizer_config.json": config });
    const t = "bos_token" in config ? [60, 116, 62] : [257];
    assert.deepEqual(named.encode("<s><t>", { split_special_tokens: true }), [60, 115, 62, ...t]);
  }
  const splits = await load({ ...files, "tokenizer_config.json": { split_special_tokens: true } });
  assert.deepEqual(splits.encode("<s><t>"), [60, 115, 62, 257]);
});

Deno.test("loadTokenizer() takes extra_special_tokens by name, and added tokens of whole words", async () => {
  const word = { id: 256, content: "boat", single_word: true, normalized: false, special: false };
  const { encode } = await load({
    "tokenizer.json": { ...byteLevel([], []), added_tokens: [word] },
    "tokenizer_config.json": { extra_special_tokens: { image_token: "<image>", boi: { content: "<boi>" } } },
  });
  assert.deepEqual(encode("<image><boi>boat"), [257, 258, 256]);
  assert.deepEqual(encode("boats").length, 5);
  assert.deepEqual(encode("\u{1d7d8}boat").length, 8);
});

Deno.test("loadTokenizer() refuses by name what it does not know of a tokenizer.json", async () => {
  const refused = async (change: Files, message: RegExp) => {
    await assert.rejects(load({ "tokenizer.json": { ...byteLevel([], []), ...change } }), {
      name: "InputError",
      message,
    });
  };
  const bpe = sentencepiece().model as Files;
  await refused({ normalizer: { type: "Odd" } }, /normalizer\.type "Odd" is no normalizer known here/);
  await refused({ pre_tokenizer: { type: "UnicodeScripts" } }, /pre_tokenizer\.type "UnicodeScripts"/);
  await refused({ decoder: { type: "Odd" } }, /decoder\.type "Odd"/);
  await refused({ post_processor: { type: "Odd" } }, /post_processor\.type "Odd"/);
  await refused({ model: { ...bpe, dropout: 0.1 } }, /model\.dropout/);
  await refused({ model: { ...bpe, merges: [["a", "b"]] } }, /model\.merges\[0\].* lacks/);
  const split = (Regex: string) => ({
    pre_tokenizer: { type: "Split", pattern: { Regex }, behavior: "Isolated", invert: false },
  });
  await refused(split("\\bx"), /pre_tokenizer\.pattern\.Regex cannot be used/);
  await refused(split("(?i)[a-z]+\\p{L}"), /pre_tokenizer\.pattern\.Regex cannot be used/);
  await refused(split("("), /pre_tokenizer\.pattern\.Regex cannot be used/);
});

Deno.test("encode() leaves white space with the added token that took it first, as the Rust library does", async () => {
  const encoderOf = async (lstrip: boolean, rstrip: boolean) => {
    const added_tokens = ["\n", "<e>", "  y"].map((content, index) => (
      { id: 256 + index, content, lstrip, rstrip, special: true, normalized: false, single_word: false }
    ));
    return (await load({ "tokenizer.json": { ...byteLevel([], []), added_tokens } })).encode;
  };
  const [y, space, a] = [258, 32, 97];
  const expected = [ // text, then ids with both, with rstrip and with lstrip alone
    ["\n\n\n", [256], [256, 256, 256], [256, 256, 256]],
    ["a\n \na", [a, 256, a], [a, 256, 256, a], [a, 256, 256, a]],
    ["<e> \n\n<e>", [257, 257], [257, 256, 256, 257], [257, 256, 256, 257]],
    ["\n  y", [256, y], [256, y], [256, y]],
    [" \n \n ", [256], [space, 256, 256], [256, 256, space]],
  ] as const;
  const encoders = [await encoderOf(true, true), await encoderOf(false, true), await encoderOf(true, false)];
  for (const [text, ...ids] of expected) {
    assert.deepEqual(encoders.map((encode) => encode(text)), ids, JSON.stringify(text));
  }
});

Deno.test("encode() by a Metaspace with prepend_scheme first asks for the text's own beginning, as the Rust library does", async () => {
  const replace = (String: string, content: string) => ({ type: "Replace", pattern: { String }, content });
  const vocab = Object.fromEntries([..."_ abcxyz"].map((character, id) => [character, id]));
  const pieces = async (normalizers: readonly unknown[], text: string) => {
    const { encode, decode } = await load({
      "tokenizer.json": {
        normalizer: { type: "Sequence", normalizers },
        pre_tokenizer: { type: "Metaspace", replacement: "_", prepend_scheme: "first", split: false },
        decoder: { type: "Fuse" },
        model: { type: "BPE", vocab, merges: [] },
      },
    });
    return decode(encode(text));
  };
  const strip = { type: "Strip", strip_left: true, strip_right: true };
  const prepend = { type: "Prepend", prepend: " " };
  for (
    const [normalizers, text, expected] of [
      [[replace("a", "xy")], "ab", "_xyb"],
      [[replace("ab", "xyz")], "abc", "xyzc"],
      [[replace("a", "")], "ab", "b"],
      [[prepend, strip], "a", "_a"],
      [[prepend, strip], " a", "a"],
      [[prepend, replace(" ", "z")], "ab", "_zab"],
      [[replace("a", ""), prepend, replace(" ", "z")], "ab", "zb"],
    ] as const
  ) {
    assert.equal(await pieces(normalizers, text), expected, JSON.stringify([normalizers, text]));
  }
});

Deno.test("encode() of bytes merges across U+2581 where the vocabulary has that character too", async () => {
  const json = byteLevel(["a \u00e2"], []);
  const model = json.model as { vocab: Record<string, number> };
  model.vocab["\u2581"] = 257;
  const { encode } = await load({
    "tokenizer.json": {
      ...json,
      pre_tokenizer: { type: "ByteLevel", add_prefix_space: false, use_regex: false },
    },
  });
  assert.deepEqual(encode("a\u2581"), [256, 0x96, 0x81]);
});
