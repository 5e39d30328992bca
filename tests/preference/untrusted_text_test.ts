/** Special tokens that a row spells, with `split_special_tokens`: text, whatever stands around them. */
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TextSettings, tokeniseResponses } from "../../src/preference/encode.ts";
import type { Comparison, Message } from "../../src/preference/rows.ts";
import { loadTokenizer, type Tokenizer } from "../../src/preference/tokenizer.ts";
import { VALUES } from "../reference/values.ts";
import { byteLevel, chatml, type Files, llama3, load, sentencepiece } from "./_tokenizers.ts";

const STYLES = ["llama3", "qwen2", "qwen3", "llama2", "mistral", "phi3", "gemma", "gpt2"];
const tokenizers = new Map<string, Tokenizer>();
const specials = new Map<string, Map<number, string>>();
for (const style of STYLES) {
  const folder = `${VALUES}/tokens/${style}`;
  tokenizers.set(style, await loadTokenizer(folder));
  const { added_tokens } = JSON.parse(await readFile(`${folder}/tokenizer.json`, "utf8"));
  specials.set(
    style,
    new Map(
      added_tokens.filter(({ special }: { special: boolean }) => special)
        .map(({ id, content }: { id: number; content: string }) => [id, content]),
    ),
  );
}

const settings = (
  split_special_tokens: boolean | null,
  prompt_boundary: "trl" | "simpo" = "trl",
): TextSettings => ({
  prompt_boundary,
  split_special_tokens,
});

const idsOf = (tokenizer: Tokenizer, row: Omit<Comparison, "row">, given: TextSettings) =>
  tokeniseResponses(tokenizer, { row: 1, ...row }, given).map(({ ids }) => [...ids]);

/** A turn with more than a role and a content. */
const turn = (fields: Message & Readonly<Record<string, unknown>>): Message => fields;

const chat = (question: string, answers: readonly string[]) => ({
  prompt: [{ role: "user", content: question }],
  responses: answers.map((content) => [{ role: "assistant", content }]),
});

Deno.test("encode() with split_special_tokens gives what transformers gives for texts that spell added tokens", async () => {
  const values: Record<string, [string, number[]][]> = JSON.parse(
    await readFile(`${VALUES}/tokens/split.json`, "utf8"),
  );
  assert.deepEqual(Object.keys(values), STYLES);
  for (const [style, rows] of Object.entries(values)) {
    const { encode } = tokenizers.get(style)!;
    for (const [text, ids] of rows) {
      assert.deepEqual(encode(text, { split_special_tokens: true }), ids, `${style} ${JSON.stringify(text)}`);
      const every = Array.from(text, (_, place) => place);
      assert.deepEqual(encode(text, { literal: every }), ids, `${style} ${JSON.stringify(text)}`);
    }
  }
});

for (const style of STYLES) {
  Deno.test(`tokeniseResponses() writes no special token more where contents spell them: ${style}`, () => {
    const tokenizer = tokenizers.get(style)!;
    const isSpecial = specials.get(style)!;
    const contents = [...isSpecial.values()].slice(0, 12);
    const header = tokenizer.renderChat([{ role: "user", content: "q" }], { addGenerationPrompt: true });
    const tried = [
      ...contents.map((token) => `a ${token} b`),
      ...contents,
      header,
      contents.join(""),
      contents[0]!.slice(0, -1),
    ];
    for (const boundary of ["trl", "simpo"] as const) {
      const harmless = idsOf(tokenizer, chat("a boat", ["one", "two"]), settings(true, boundary));
      assert.deepEqual(harmless, idsOf(tokenizer, chat("a boat", ["one", "two"]), settings(null, boundary)));
      const written = (all: number[][]) => all.map((ids) => ids.filter((id) => isSpecial.has(id)));
      for (const text of tried) {
        const row = chat(text, [`x${text}y`, text]);
        const split = idsOf(tokenizer, row, settings(true, boundary));
        assert.deepEqual(written(split), written(harmless), `${boundary} ${JSON.stringify(text)}`);
        // sentencepiece's texts end with special tokens, and begin again with a space behind them
        const said = (ids: number[]) => tokenizer.decode(ids).replaceAll(/\s/g, "");
        const ends = (ids: number[]) => said(ids).replace(/(?:<[^<>]*>)+$/, "");
        assert.deepEqual(split.map(ends), idsOf(tokenizer, row, settings(false, boundary)).map(ends));
      }
    }
  });
}

const TOOLS =
  "{% for tool in tools or [] %}{{ tool | tojson }}\n{{ tool | tojson(ensure_ascii=True) }}\n{{ tool }}\n{% endfor %}" +
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.name or '' }}{{ m.content or '' }}" +
  "{% for call in m.tool_calls or [] %}{{ call.function.name }}{{ call.function.arguments }}{{ call.function.arguments | tojson }}{% endfor %}" +
  "{{ note }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

Deno.test("tokeniseResponses() takes all that a row says for text: names, tools, arguments, variables, keys, halves of tokens", () => {
  const tokenizer = chatml.withChatTemplate(TOOLS);
  const row = (bad: string): Omit<Comparison, "row"> => ({
    tools: [{ type: "function", function: { name: `f${bad}`, description: bad, [`k${bad}`]: 1 } }],
    chat_template_kwargs: { note: bad },
    prompt: [turn({ role: "user", name: bad, content: `${bad}${bad}` }), { role: "tool", content: bad }],
    responses: [
      [{ role: "assistant", content: bad }],
      [turn({ role: "assistant", tool_calls: [{ function: { name: bad, arguments: { [bad]: [bad] } } }] })],
    ],
  });
  const ids = (bad: string, split: boolean) => idsOf(tokenizer, row(bad), settings(split));
  const count = (all: number[][]) => all.map((ids) => ids.filter((id) => id >= 258).length);
  assert.deepEqual(count(ids("x", true)), count(ids("x", false)));
  // U+2800 would be the first stand-in
  for (
    const bad of [
      "<|im_end|>",
      "<|im_start|>assistant\n",
      "\u2800<|im_end|> \\u2801",
      "'<|im_end|>\"",
      "<|im_",
      "😀<|im_end|>",
    ]
  ) {
    assert.deepEqual(count(ids(bad, true)), count(ids("x", true)), bad);
    // of several EOS at the end one stays
    const said = (ids: number[]) => tokenizer.decode(ids).replace(/(<\|im_end\|>)+\n$/, "");
    const texts = ids(bad, false).map(said);
    assert.deepEqual(ids(bad, true).map(said), texts);
  }
  // what one field begins and the next ends is no token either
  const halves = { prompt: [turn({ role: "user", name: "<|im_", content: "end|>" })], responses: ["a"] };
  assert.equal(count(idsOf(tokenizer, halves, settings(true)))[0], 4);
  assert.equal(count(idsOf(tokenizer, halves, settings(false)))[0], 5);
});

Deno.test("tokeniseResponses() lets no role end a turn, and writes Phi-3's kind of header as ever", () => {
  const tokenizer = llama3.withChatTemplate(
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eot>{% endfor %}",
  );
  const row = (role: string) => ({
    prompt: [{ role, content: "q" }],
    responses: [[{ role: "h", content: "a" }]],
  });
  const count = (role: string) =>
    idsOf(tokenizer, row(role), settings(true))[0]!.filter((id) => id >= 256).length;
  assert.equal(count("h"), count("user") + 1);
  assert.equal(count("user><eot"), count("user"));
  assert.equal(count("/h><eot"), count("user"));
});

Deno.test("tokeniseResponses() with split_special_tokens takes plain prompts and responses for text, and ends them with EOS", () => {
  const row = { prompt: "<bos>q<eot>", responses: ["a<end>", "b<eo"] };
  const ids = idsOf(llama3, row, settings(true));
  assert.deepEqual(ids.map((ids) => ids.filter((id) => id >= 256)), [[256, 260], [256, 260]]);
  assert.deepEqual(ids.map((ids) => llama3.decode(ids)), [
    "<bos><bos>q<eot>a<end><end>",
    "<bos><bos>q<eot>b<eo<end>",
  ]);
  const halves = { prompt: "q<e", responses: ["ot>"] };
  assert.deepEqual(idsOf(llama3, halves, settings(true))[0]!.filter((id) => id >= 256), [256, 260]);
});

Deno.test("tokeniseResponses() with split_special_tokens goes on with a turn that the prompt has begun", () => {
  const row = {
    prompt: [{ role: "user", content: "q" }, { role: "assistant", content: "a<|im_" }],
    responses: [[{ role: "assistant", content: "end|><|im_end|>b" }]],
  };
  const [ids] = idsOf(chatml, row, settings(true));
  assert.equal(
    chatml.decode(ids!),
    "<|im_start|>user\nq<|im_end|>\n<|im_start|>assistant\na<|im_end|><|im_end|>b<|im_end|>\n",
  );
  assert.equal(ids!.filter((id) => id >= 258).length, 4);
});

Deno.test("tokeniseResponses() finds special tokens that only normalised text spells", async () => {
  const json = sentencepiece() as {
    added_tokens: Record<string, unknown>[];
    normalizer: { normalizers: unknown[] };
  };
  const files: Files = {
    "tokenizer.json": {
      ...json,
      normalizer: { type: "Sequence", normalizers: [{ type: "NFKC" }, ...json.normalizer.normalizers] },
      added_tokens: json.added_tokens.map((token) => ({ ...token, normalized: true })),
    },
    "tokenizer_config.json": {
      bos_token: "<s>",
      eos_token: "</s>",
      chat_template: "{% for m in messages %}{{ m.content }} {{ eos_token }}{% endfor %}",
    },
  };
  const tokenizer = await load(files);
  const count = (text: string, split: boolean) =>
    idsOf(tokenizer, chat(text, ["a"]), settings(split))[0]!.filter((id) => id === 2).length;
  for (const text of ["</s>", "b </s> c", "b ＜/s＞", "ﬁ ﬁ </s> ＜/s＞"]) {
    assert.equal(count(text, true), count("b", true), text);
    assert.ok(count(text, false) > count("b", false), text);
  }
});

Deno.test("tokeniseResponses() lets a template find no special token in a content, and tells what it refuses as the row has it", async () => {
  const tokenizer = await load({
    "tokenizer.json": byteLevel([], ["<e>", "</think>"]),
    "tokenizer_config.json": {
      eos_token: "<e>",
      chat_template:
        "{% for m in messages %}{% if m.content == '!' %}{{ raise_exception('no ' + messages[0].content) }}{% endif %}" +
        "{{ m.content.split('</think>')[-1] }}<e>{% endfor %}",
    },
  });
  const [split] = idsOf(tokenizer, chat("q", ["a</think>b"]), settings(true));
  assert.equal(tokenizer.decode(split!), "q<e>a</think>b<e>");
  const [found] = idsOf(tokenizer, chat("q", ["a</think>b"]), settings(false));
  assert.equal(tokenizer.decode(found!), "q<e>b<e>");
  assert.throws(() => idsOf(tokenizer, chat("<e>", ["!"]), settings(true)), { message: /no <e>\.?$/ });
});
