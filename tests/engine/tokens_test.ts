/** Over HTTP with the real engine: a text is scored as the tokens that the Rust library makes of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startEngine } from "../../src/engine/client.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { testService } from "../helpers/service.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";
import { byteLevel } from "../preference/_tokenizers.ts";
import { VALUES } from "../reference/values.ts";

type Json = Record<string, unknown>;

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
  ["word_level", "a\u0085b \u2019\u017f", [19, 33, 0, 0]],
  ["punctuation", "a\u2014b!!a", [26, 0, 39, 31, 31, 26]],
  ["whitespace_split", "a\ufeffb\u0085a b", [5, 2, 5, 2]],
  ["fixed_length", "a'S\u{1f600}b", [1, 0, 2]],
  ["subword_prefix", "the boat is here", [439, 51, 488, 447, 57, 437, 262]],
  ["suffix", "x\u216b\u0663y", [71, 0, 0, 263]],
  ["gpt2", "a\u0085b \ufeffc", [64, 126, 227, 65, 683, 119, 123, 66]],
  ["cl100k", " \n_", [710, 62]],
  // These two were never wrong, and are to stay so.
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
  ["clip", "A boat\u03a3", [259, 431, 585, 139, 327]],
  ["bert", "caf\u00e9 a\u{20000}b", [350, 269, 212, 34, 1, 35]],
  ["digit_runs", "a \u00e9 boat_x boats", [64, 220, 165, 577, 78, 339, 62, 87, 577, 78, 339, 82]],
  ["t5", "\u00a0a\u2003b", [41, 0, 35]],
];

const models = JSON.parse(await Deno.readTextFile(`${VALUES}/tokenizers/models.json`));

/** Writes a model with a tokenizer of a style, changed. @returns its folder's name */
async function writeModel(style: string, name = style, change: (json: Json) => Json = (json) => json) {
  const folder = await writeTinyModel(join(service.root, name), { vocabulary: 1700 });
  const json = JSON.parse(await Deno.readTextFile(`${VALUES}/tokenizers/${style}.json`));
  const { shared, ...model } = json.model;
  const whole = { ...json, model: { ...model, ...models[shared] } };
  await Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify(change(whole)));
  await Deno.writeTextFile(join(folder, "tokenizer_config.json"), "{}");
  return name;
}

const ask = (model: string, prompt: unknown) =>
  service.post("/v1/completions", { model, prompt, max_tokens: 0, echo: true, logprobs: 1 });

/** A prompt's tokens with their log-probs. */
async function complete(model: string, prompt: unknown) {
  const { status, body } = await ask(model, prompt);
  assert.equal(status, 200, JSON.stringify(body));
  const { text, logprobs: { tokens, token_logprobs } } = body.choices[0];
  return { text, tokens, token_logprobs };
}

for (const [style, text, ids] of CASES) {
  Deno.test(`POST /v1/completions takes a text for the tokens that it is by a tokenizer of the style ${style}`, async () => {
    await writeModel(style);
    const [ofText, ofIds] = [await complete(style, text), await complete(style, ids)];
    assert.deepEqual({ ...ofText, text: null }, { ...ofIds, text: null });
  });
}

const nameless: [style: string, change: Json][] = [
  ["word_level", { unk_token: "[NONE]" }],
  ["xlm_roberta", { unk_id: null }],
];
for (const [style, change] of nameless) {
  Deno.test(`POST /v1/completions refuses a text without a token where a tokenizer of the style ${style} names none for the unknown`, async () => {
    const name = await writeModel(style, `nameless_${style}`, (json) => ({
      ...json,
      model: { ...json["model"] as Json, ...change },
    }));
    const { status, body } = await ask(name, "a ꙮ b");
    assert.equal(status, 422, JSON.stringify(body));
    assert.match(body.detail, /no token for "ꙮ"/);
  });
}

Deno.test("POST /v1/completions writes U+FEFF out where tokens begin with it", async () => {
  await writeModel("gemma");
  assert.equal((await complete("gemma", [243, 191, 195, 312])).text, "\ufeffc");
});

Deno.test("POST /v1/completions takes the special tokens that tokenizer_config.json names in a dict", async () => {
  const name = await writeModel("gpt2", "dict");
  const extra_special_tokens = { image_token: "<image>", boi_token: { content: "<boi>" } };
  await Deno.writeTextFile(
    join(service.root, name, "tokenizer_config.json"),
    JSON.stringify({ extra_special_tokens }),
  );
  assert.deepEqual((await complete(name, "<image>c<boi>")).tokens, ["<image>", "c", "<boi>"]);
});

Deno.test("POST /v1/completions refuses by its name what no tokenizer here does", async () => {
  const name = await writeModel("gpt2", "odd", (json) => ({ ...json, normalizer: { type: "Odd" } }));
  const { status, body } = await ask(name, "a");
  assert.equal(status, 422, JSON.stringify(body));
  assert.match(body.detail, /normalizer\.type "Odd" is no normalizer known here/);
});

/** Writes files as JSON into a folder. */
async function writeFiles(folder: string, files: Record<string, Json>) {
  await Deno.mkdir(folder, { recursive: true });
  for (const [name, json] of Object.entries(files)) {
    await Deno.writeTextFile(join(folder, name), JSON.stringify(json));
  }
}

/** Writes an adapter that changes no weight. */
async function writeIdleAdapter(folder: string, files: Record<string, Json>) {
  const lora = {
    peft_type: "LORA",
    r: 1,
    lora_alpha: 1,
    target_modules: ["q_proj"],
    layers_to_transform: [0],
  };
  await writeFiles(folder, { "adapter_config.json": lora, ...files });
  const path = "base_model.model.model.layers.0.self_attn.q_proj";
  const zeros = { dtype: "F32" as const, data: new Uint8Array(128) };
  await writeSafetensors(join(folder, "adapter_model.safetensors"), [
    { ...zeros, name: `${path}.lora_A.weight`, shape: [1, 32] },
    { ...zeros, name: `${path}.lora_B.weight`, shape: [32, 1] },
  ]);
}

Deno.test("POST /score takes an adapter's own special tokens and tokenizer as a model folder that has them", async () => {
  const at = (name: string) => join(service.root, name);
  const vocabulary = 300; // with room for another token
  await writeTinyModel(at("base"), { vocabulary });
  const config = JSON.parse(await Deno.readTextFile(join(at("base"), "tokenizer_config.json")));
  const own: Record<string, Record<string, Json>> = {
    "another EOS": { "tokenizer_config.json": { ...config, eos_token: "<|user|>" } },
    "a token more": { "tokenizer_config.json": { ...config, extra_special_tokens: ["<|new|>"] } },
    "another tokenizer": {
      "tokenizer.json": byteLevel(["t h", "i n", "h a"], ["<|end|>", "<|user|>"]),
      "tokenizer_config.json": { ...config, bos_token: null, add_bos_token: false },
    },
  };
  const score = async (fields: Json) => {
    const item = { prompt: "the hand", candidates: [" in<|new|>", " out of the bath"] };
    const { status, body } = await service.post("/score", { ...item, ...fields });
    assert.equal(status, 200, JSON.stringify(body));
    return body.results.map((result: Json) => [result["num_tokens"], result["sum_logprob"]]);
  };
  const plain = await score({ model: "base" });
  await writeIdleAdapter(at("idle"), {});
  assert.deepEqual(await score({ model: "base", adapter: "idle" }), plain);
  for (const [name, files] of Object.entries(own)) {
    await writeTinyModel(at(name), { vocabulary });
    await writeFiles(at(name), files);
    await writeIdleAdapter(at(`${name} of an adapter`), files);
    const scored = await score({ model: "base", adapter: `${name} of an adapter` });
    assert.deepEqual(scored, await score({ model: name }), name);
    assert.notDeepEqual(scored, plain, name);
  }
});
