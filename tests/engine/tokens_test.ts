/** Over HTTP with the real engine: a text is scored as the tokens that the Rust library makes of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startEngine } from "../../src/engine/client.ts";
import { testService } from "../helpers/service.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";
import { VALUES } from "../reference/values.ts";

const engine = await startEngine({ device: "auto", allowSoftware: true });
const service = await testService({ engine: Promise.resolve(engine) });
Deno.test.afterAll(async () => {
  await service[Symbol.asyncDispose]();
  await engine.stop();
});

/** A style of tests/reference/make_tokenizers.py, a text, and what `Tokenizer.encode` of tokenizers 0.23.3 makes of it. */
const CASES: readonly [style: string, text: string, ids: readonly number[]][] = [
  ["unigram_bytes", "a\u00bd1 b", [311, 197, 192, 370, 259, 294]],
  ["smollm2", "a\u00bd \u00b2\u216b\u0663 b", [64, 126, 121, 220, 126, 110, 158, 227, 104, 149, 96, 577]],
  ["falcon", "a\u00bd1 b", [64, 126, 1397, 577]],
  ["word_level", "a \u4f60 b", [19, 0, 33]],
  ["punctuation", "a\u2014b!!a", [26, 0, 39, 31, 31, 26]],
  ["whitespace_split", "a\ufeffb\u0085a b", [5, 2, 5, 2]],
  ["fixed_length", "a \u4f60 b", [1, 0, 2]],
  ["subword_prefix", "the boat is here", [439, 51, 488, 447, 57, 437, 262]],
  ["suffix", "x\u216b\u0663y", [71, 0, 0, 263]],
  ["gpt2", "a\u0085b \ufeffc", [64, 126, 227, 65, 683, 119, 123, 66]],
  ["o200k", "The BOATs aren't 12345", [
    51,
    1533,
    545,
    46,
    32,
    51,
    82,
    220,
    337,
    1538,
    6,
    83,
    220,
    16,
    17,
    18,
    19,
    20,
  ]],
  ["deepseek3", "a<\uff5cUser\uff5c>b", [64, 1588, 65]],
  ["xlm_roberta", "a\u0149b", [41, 0, 35]],
  ["clip", "A  boat\u00bd", [259, 431, 379, 126, 281]],
  ["bert", "Caf\u00e9 \u4f60b", [350, 269, 212, 174, 35]],
  ["digit_runs", "a \u00e9 boat_x boats", [64, 220, 165, 577, 78, 339, 62, 87, 577, 78, 339, 82]],
  ["t5", "\u00a0a\u2003b", [41, 0, 35]],
];

const models = JSON.parse(await Deno.readTextFile(`${VALUES}/tokenizers/models.json`));

async function writeModel(style: string): Promise<void> {
  const folder = await writeTinyModel(join(service.root, style), { vocabulary: 1700 });
  const json = JSON.parse(await Deno.readTextFile(`${VALUES}/tokenizers/${style}.json`));
  const { shared, ...model } = json.model;
  await Deno.writeTextFile(
    join(folder, "tokenizer.json"),
    JSON.stringify({ ...json, model: { ...model, ...models[shared] } }),
  );
  await Deno.writeTextFile(join(folder, "tokenizer_config.json"), "{}");
}

for (const [style, text, ids] of CASES) {
  Deno.test(`POST /v1/completions takes a text for the tokens that it is by a tokenizer of the style ${style}`, async () => {
    await writeModel(style);
    const logprobsOf = async (prompt: unknown) => {
      const asked = { model: style, prompt, max_tokens: 0, echo: true, logprobs: 1 };
      const { status, body } = await service.post("/v1/completions", asked);
      assert.equal(status, 200, JSON.stringify(body));
      const { tokens, token_logprobs } = body.choices[0].logprobs;
      return { tokens, token_logprobs };
    };
    assert.deepEqual(await logprobsOf(text), await logprobsOf(ids));
  });
}

Deno.test("POST /v1/completions refuses a text without a token where the tokenizer names none for the unknown", async () => {
  const folder = await writeTinyModel(join(service.root, "nameless"), { vocabulary: 1700 });
  const json = JSON.parse(await Deno.readTextFile(`${VALUES}/tokenizers/word_level.json`));
  const { shared, ...model } = json.model;
  const nameless = { ...model, ...models[shared], unk_token: "[NONE]" };
  await Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify({ ...json, model: nameless }));
  await Deno.writeTextFile(join(folder, "tokenizer_config.json"), "{}");
  const asked = { model: "nameless", prompt: "a 你 b", max_tokens: 0, echo: true, logprobs: 1 };
  const { status, body } = await service.post("/v1/completions", asked);
  assert.equal(status, 422, JSON.stringify(body));
  assert.match(body.detail, /no token for "你"/);
});
