import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import type { Message } from "../../src/preference/rows.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { VALUES } from "../reference/values.ts";
import { type Files, load } from "./_tokenizers.ts";

/** A conversation by transformers' apply_chat_template, or `refused` where the template raises. */
interface TemplatedChat {
  /** Index in chats.json. */
  readonly chat: number;
  readonly add_generation_prompt: boolean;
  readonly text?: string;
  readonly ids?: readonly number[];
  readonly refused?: true;
}

const read = async <T>(file: string): Promise<T> =>
  JSON.parse(await readFile(`${VALUES}/tokens/${file}`, "utf8"));
const strings = await read<string[]>("strings.json");
const knownStrings = await read<string[]>("known_strings.json");
const chats = await read<Message[][]>("chats.json");

const STYLES = ["llama3", "qwen2", "llama2", "mistral", "phi3", "gemma", "gpt2"];

for (const style of STYLES) {
  Deno.test(`encode() gives what the tokenizers library gives for 1,000 awkward strings: ${style}`, async () => {
    assert.equal(strings.length, 1000);
    const { encode } = await loadTokenizer(`${VALUES}/tokens/${style}`);
    for (const [index, ids] of (await read<number[][]>(`${style}/ids.json`)).entries()) {
      assert.deepEqual(encode(strings[index]!), ids, JSON.stringify(strings[index]));
    }
  });
}

for (const style of [...STYLES, "qwen3"]) {
  Deno.test(`renderChat() and encode() give what apply_chat_template gives: ${style}`, async () => {
    const tokenizer = await loadTokenizer(`${VALUES}/tokens/${style}`);
    for (const expected of await read<TemplatedChat[]>(`${style}/chats.json`)) {
      const render = () =>
        tokenizer.renderChat(chats[expected.chat]!, { addGenerationPrompt: expected.add_generation_prompt });
      if (expected.refused) {
        assert.throws(render, { name: "InputError" });
      } else {
        assert.equal(render(), expected.text);
        assert.deepEqual(tokenizer.encode(render()), expected.ids);
      }
    }
  });
}

// JavaScript's \s holds U+FEFF and lacks U+0085, the Rust library's is the other way round.
Deno.test("encode() gives what the tokenizers library gives around U+FEFF and U+0085", async () => {
  for (const style of STYLES) {
    const { encode, decode } = await loadTokenizer(`${VALUES}/tokens/${style}`);
    for (const [index, ids] of (await read<number[][]>(`${style}/known_ids.json`)).entries()) {
      assert.deepEqual(encode(knownStrings[index]!), ids, JSON.stringify(knownStrings[index]));
      // Mistral's puts no space before a text that has one, and takes one away all the same.
      if (style !== "mistral") assert.equal(decode(ids), knownStrings[index]);
    }
  }
});

/** A style's files with other entries and files, and what transformers then makes of file_texts.json. */
interface FileCase {
  readonly style: string;
  /** Entries of tokenizer_config.json. */
  readonly config: Files;
  readonly files: Files;
  /** Further ones of tokenizer.json. */
  readonly added_tokens: readonly unknown[];
  readonly bos: number | null;
  readonly eos: number | null;
  readonly ids: readonly (readonly number[])[];
}

Deno.test("loadTokenizer() takes special and added tokens from the files that transformers takes them from", async () => {
  const texts = await read<string[]>("file_texts.json");
  for (const { style, config, files, added_tokens, bos, eos, ids } of await read<FileCase[]>("files.json")) {
    const json = await read<{ added_tokens: unknown[] }>(`${style}/tokenizer.json`);
    const tokenizer = await load({
      "tokenizer.json": { ...json, added_tokens: [...json.added_tokens, ...added_tokens] },
      "tokenizer_config.json": { ...await read<Files>(`${style}/tokenizer_config.json`), ...config },
      ...files,
    });
    const what = JSON.stringify({ style, config, files, added_tokens });
    assert.deepEqual([tokenizer.bos, tokenizer.eosId], [bos, eos], what);
    for (const [index, text] of texts.entries()) {
      assert.deepEqual(tokenizer.encode(text), ids[index], `${what} ${JSON.stringify(text)}`);
    }
  }
});
