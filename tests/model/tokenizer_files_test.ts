import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { copyTokenizer, type OwnTokenizer } from "../../src/model/tokenizer_files.ts";
import { filesOf } from "../engine/_lab.ts";
import { inFolder } from "../helpers/folder.ts";

type Files = Readonly<Record<string, string>>;

async function write(folder: string, files: Files): Promise<void> {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await Deno.writeTextFile(join(folder, name), text);
  }
}

/** What is made of a model's files and an adapter's; JSON without its white space. */
function copied(model: Files, template: OwnTokenizer["template"] = null, adapter?: Files): Promise<Files> {
  let found: Files = {};
  return inFolder(async (dir) => {
    await write(join(dir, "model"), model);
    if (adapter) await write(join(dir, "adapter"), adapter);
    await mkdir(join(dir, "out"));
    const own = { template, adapter: adapter ? join(dir, "adapter") : null };
    await copyTokenizer(join(dir, "model"), join(dir, "out"), own);
    found = Object.fromEntries(
      Object.entries(await filesOf(join(dir, "out"))).map(([name, bytes]) => {
        const text = new TextDecoder().decode(bytes);
        return [name, name === "tokenizer_config.json" ? text.replace(/\s+/g, "") : text];
      }),
    );
  }).then(() => found);
}

const TOKENIZER = {
  "tokenizer.json": "model's",
  "preprocessor_config.json": "{}",
};
const MODEL = {
  ...TOKENIZER,
  "tokenizer_config.json": '{"eos_token":"</s>","model_max_length":1e30,"chat_template":"a"}',
  "chat_template.jinja": "b",
  "additional_chat_templates/tool_use.jinja": "t",
  "chat_template.json": '{"chat_template":"c"}',
};

Deno.test("copyTokenizer() copies a model's tokenizer with all of its templates, and nothing else", async () => {
  assert.deepEqual(
    await copied({ ...MODEL, "weights.bin": "", "additional_chat_templates/notes.txt": "" }),
    MODEL,
  );
});

Deno.test("copyTokenizer() puts a template of its own in the place of every other", async () => {
  assert.deepEqual(await copied(MODEL, "own"), {
    ...TOKENIZER,
    "tokenizer_config.json": '{"eos_token":"</s>","model_max_length":1e30}',
    "chat_template.jinja": "own",
  });
});

Deno.test("copyTokenizer() puts an adapter's templates in the place of the model's, and adds its special tokens", async () => {
  const adapter = { "tokenizer_config.json": '{"eos_token":"<end>","chat_template":"mine"}' };
  assert.deepEqual(await copied(MODEL, null, adapter), {
    ...TOKENIZER,
    "tokenizer_config.json": '{"eos_token":"<end>","model_max_length":1e30,"chat_template":"mine"}',
  });
  const { "chat_template.jinja": _, ...rest } = await copied(MODEL, null, { "chat_template.jinja": "mine" });
  assert.deepEqual(rest, {
    ...TOKENIZER,
    "tokenizer_config.json": '{"eos_token":"</s>","model_max_length":1e30}',
  });
});

Deno.test("copyTokenizer() puts an adapter's tokenizer in the place of the model's, whose templates stay where it has none", async () => {
  const adapter = { "tokenizer.json": "adapter's", "tokenizer_config.json": '{"eos_token":"<end>"}' };
  assert.deepEqual(await copied(MODEL, null, adapter), {
    ...MODEL,
    "tokenizer.json": "adapter's",
    "tokenizer_config.json": '{"eos_token":"<end>","chat_template":"a"}',
  });
});
