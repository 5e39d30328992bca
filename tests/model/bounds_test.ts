/** Folders of models that others wrote: what is beyond bounds is refused by name before anything is made of it. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { linearModules, weightSpecs } from "../../src/model/modules.ts";
import { checkPatterns } from "../../src/model/adapter_modules.ts";
import { pythonPattern } from "../../src/model/adapter_config.ts";
import { mostFileBytes } from "../../src/model/_files.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { storedDtype } from "../../src/model/weights.ts";
import { readDataFiles } from "../../src/preference/data_files.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { inFolder } from "../helpers/folder.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

/** What a job and a score read of a folder before its weights. */
async function readModel(folder: string): Promise<void> {
  const config = await readModelConfig(folder);
  using checkpoint = await WeightFiles.open(folder);
  for (const spec of weightSpecs(config)) storedDtype(checkpoint, spec);
  await loadTokenizer(folder);
}

/** A tiny model in a folder of its own. */
async function withModel(work: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await work(await writeTinyModel(join(folder, "model")));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function refused(work: () => Promise<unknown>, message: RegExp): Promise<void> {
  await assert.rejects(work, (error) => {
    assert.ok(error instanceof InputError, `${error}`);
    assert.match(error.message, message);
    return true;
  });
}

async function changeJson(path: string, change: (json: Record<string, unknown>) => void): Promise<void> {
  const json = JSON.parse(await Deno.readTextFile(path));
  change(json);
  await Deno.writeTextFile(path, JSON.stringify(json));
}

const SMALL = [
  "config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "generation_config.json",
  "chat_template.jinja",
  "chat_template.json",
  "additional_chat_templates/tool_use.jinja",
  "model.safetensors",
];

const KINDS: [kind: string, make: (path: string) => Promise<unknown>, message: RegExp][] = [
  ["a named pipe", (path) => run("mkfifo", path), /a named pipe, not a file\.|is not a file|is a folder/],
  ["a folder", (path) => Deno.mkdir(path), /is a folder, not a file\./],
  ["a device", (path) => Deno.symlink("/dev/zero", path), /a device, not a file\.|is a folder/],
  ["a link to itself", (path) => Deno.symlink(path, path), /a symbolic link that leads to itself\./],
];

for (const [kind, make, message] of KINDS) {
  Deno.test(`each file of a model's folder that is ${kind} is refused by name`, async () => {
    for (const name of SMALL) {
      await withModel(async (folder) => {
        const path = join(folder, name);
        await Deno.mkdir(join(path, ".."), { recursive: true });
        await Deno.remove(path).catch(() => {});
        // Read where there is no template beside it.
        if (name === "chat_template.json") {
          await changeJson(join(folder, "tokenizer_config.json"), (json) => delete json.chat_template);
        }
        await make(path);
        await refused(() => readModel(folder), message);
        await refused(() => readModel(folder), new RegExp(`^${name.split("/").at(-1)}`));
      });
    }
  });
}

Deno.test("a folder of templates that is none, or holds too many, is refused by name", async () => {
  const name = "additional_chat_templates";
  await withModel(async (folder) => {
    await Deno.symlink("/dev/zero", join(folder, name));
    await refused(() => readModel(folder), new RegExp(`^${name} in model is no folder\\.$`));
    await Deno.remove(join(folder, name));
    await Deno.mkdir(join(folder, name));
    for (let i = 0; i < 201; i++) await Deno.writeTextFile(join(folder, name, `${i}.jinja`), "{{ 1 }}");
    await refused(() => readModel(folder), new RegExp(`^${name} in model holds more than 200 files`));
  });
});

Deno.test("readDataFiles() refuses a link to itself by name", () =>
  withModel(async (folder) => {
    await Deno.symlink(join(folder, "loop.jsonl"), join(folder, "loop.jsonl"));
    const read = () => Array.fromAsync(readDataFiles([join(folder, "loop.jsonl")]));
    await refused(read, /^loop\.jsonl in model is a symbolic link that leads to itself\.$/);
  }));

Deno.test("readDataFiles() refuses a named pipe and a device by name", async () => {
  await withModel(async (folder) => {
    for (const name of ["rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.arrow"]) {
      await run("mkfifo", join(folder, name));
      const read = () => Array.fromAsync(readDataFiles([join(folder, name)]));
      await refused(read, new RegExp(`^${name} is a named pipe, not a file\\.$`));
    }
    await Deno.symlink("/dev/zero", join(folder, "zero.jsonl"));
    const read = () => Array.fromAsync(readDataFiles([join(folder, "zero.jsonl")]));
    await refused(read, /^zero\.jsonl is a device, not a file\.$/);
  });
});

Deno.test("config.json with forty thousand unknown fields is read, and a few of them are named", async () => {
  await withModel(async (folder) => {
    await changeJson(join(folder, "config.json"), (json) => {
      for (let i = 0; i < 40_000; i++) json[`unknown_${i}`] = i + 1;
    });
    const { warnings: [warning] } = await readModelConfig(folder);
    assert.match(warning!, /unknown_0, unknown_1, .*unknown_49 and 39950 more\.$/);
    assert.ok(warning!.length < 1500);
  });
});

Deno.test("a file beside the weights that is too long is refused by its size", async () => {
  for (const name of ["config.json", "tokenizer.json", "chat_template.jinja"]) {
    await withModel(async (folder) => {
      await Deno.writeFile(join(folder, name), new Uint8Array());
      const bytes = mostFileBytes(name) + 1;
      await Deno.truncate(join(folder, name), bytes); // sparse
      await refused(() => readModel(folder), new RegExp(`^${name} has ${bytes} bytes`));
    });
  }
});

const SIZES: [field: string, value: unknown, message: RegExp][] = [
  ["num_hidden_layers", 1e6, /num_hidden_layers is 1000000, but must be a whole number from 1 to 2000\.$/],
  ["num_hidden_layers", 2000, /The weights hold no tensor "model\.layers\.2\./],
  ["num_hidden_layers", 1e308, /num_hidden_layers is 1e\+308/],
  ["hidden_size", 2 ** 31, /hidden_size is 2147483648, but must be a whole number from 1 to 16777216\.$/],
  ["hidden_size", 2 ** 24, /has the shape \[\d+,32\], but the configuration asks for \[\d+,16777216\]/],
  ["vocab_size", 1e9, /vocab_size is 1000000000/],
  ["vocab_size", 2 ** 24, /has the shape \[\d+,32\], but the configuration asks for \[16777216,32\]/],
  ["intermediate_size", 4e9, /intermediate_size is 4000000000/],
  ["num_attention_heads", 2 ** 32, /num_attention_heads is 4294967296/],
  ["head_dim", 1e12, /head_dim is 1000000000000/],
  ["eos_token_id", 1e12, /eos_token_id is 1000000000000/],
  ["eos_token_id", new Array(2000).fill(1), /eos_token_id is \[1,1,/],
];

for (const [field, value, message] of SIZES) {
  Deno.test(`config.json with ${field} ${String(value).slice(0, 20)} is refused before anything is made of it`, async () => {
    await withModel(async (folder) => {
      await changeJson(join(folder, "config.json"), (json) => json[field] = value);
      await refused(() => readModel(folder), message);
    });
  });
}

Deno.test("a field of config.json that is an object is refused with a value that can go to another thread", async () => {
  await withModel(async (folder) => {
    await changeJson(join(folder, "config.json"), (json) => json.max_position_embeddings = { a: { b: [1] } });
    await assert.rejects(readModelConfig(folder), (error) => {
      assert.ok(error instanceof InputError);
      assert.deepEqual(structuredClone(error.problem.value), { a: { b: [1] } });
      return true;
    });
  });
});

// deno-lint-ignore no-explicit-any
const TOKENIZERS: [name: string, change: (json: any) => void, message: RegExp][] = [
  [
    "an added token with the id 1e9",
    (json) => json.added_tokens[0].id = 1e9,
    /^tokenizer\.json: added_tokens\[0\]\.id must be a whole number from 0 to 16777215, not 1000000000\.$/,
  ],
  [
    "an added token with an id that is no number",
    (json) => json.added_tokens[1].id = "7",
    /^tokenizer\.json: added_tokens\[1\]\.id must be a whole number >= 0, not "7"\.$/,
  ],
  [
    "an added token whose text is a number",
    (json) => json.added_tokens[0].content = 5,
    /^tokenizer\.json: added_tokens\[0\]\.content must be a string, not 5\.$/,
  ],
  [
    "a vocabulary with the id 1e9",
    (json) => json.model.vocab.a = 1e9,
    /tokenizer\.json.*the id 1000000000, not a whole number from 0 to 16777215\.$/,
  ],
];

/** What a tokenizer puts before a text. */
const before = (ids: unknown, id: unknown = "x") => ({
  type: "TemplateProcessing",
  single: [{ SpecialToken: { id } }],
  special_tokens: { x: { ids } },
});
/** What JavaScript cannot make a text or a number of. */
const NO_TEXT = { toString: 1, valueOf: 1 };
TOKENIZERS.push(
  [
    "a prefix of an id past all",
    (json) => json.post_processor = before([1e9]),
    /post_processor\.special_tokens.*the id 1000000000, not a whole number/,
  ],
  [
    "a prefix named by what is no text",
    (json) => json.post_processor = before([1], NO_TEXT),
    /post_processor\.special_tokens must be ids of \{"toString":1,"valueOf":1\}/,
  ],
  [
    "a first token that is no id",
    (json) => json.post_processor = { type: "BertProcessing", cls: ["a", -1] },
    /post_processor\.cls.*the id -1/,
  ],
  [
    "added tokens that are no list",
    (json) => json.added_tokens = { length: 1 },
    /added_tokens must be a list/,
  ],
  [
    "an added token that is none",
    (json) => json.added_tokens[1] = 5,
    /added_tokens\[1\] must be an object, not 5/,
  ],
  [
    "a vocabulary of no pairs",
    (json) => json.model = { type: "Unigram", vocab: [null] },
    /model\.vocab\[0\] must be a token and its score, not null/,
  ],
  [
    "a pattern that is too large for JavaScript",
    (json) => json.normalizer = { type: "Replace", pattern: { String: "a".repeat(3e5) }, content: "" },
    /normalizer\.pattern\.String cannot be used: .*Regular expression too large/,
  ],
  [
    "merges that are no texts",
    (json) => json.model.merges = ["t h", NO_TEXT],
    /model\.merges\[1\] must be a pair of tokens/,
  ],
);

for (const [name, change, message] of TOKENIZERS) {
  Deno.test(`tokenizer.json with ${name} is refused by name`, async () => {
    await withModel(async (folder) => {
      await changeJson(join(folder, "tokenizer.json"), change);
      await refused(() => readModel(folder), message);
    });
  });
}

Deno.test("pythonPattern() refuses what could take for ever, and takes what adapters have", () => {
  for (const source of ["(a+)+$", "(.|a)*x", "a".repeat(5000), `(?i)${"(a|A)".repeat(30)}x`]) {
    assert.throws(() => pythonPattern("target_modules", source), InputError);
  }
  assert.ok(pythonPattern("target_modules", "(?i).*\\.(?P<kind>q|v)_proj").test("layers.0.Q_proj"));
});

async function run(command: string, ...args: string[]): Promise<void> {
  const { success } = await new Deno.Command(command, { args }).output();
  assert.ok(success);
}

Deno.test("readJsonObject() and loadTokenizer() refuse a file that is nested deeper than any model's", () =>
  inFolder(async (folder) => {
    await writeTinyModel(folder);
    const deep = `{"normalizer":${'{"type":"Sequence","normalizers":['.repeat(20_000)}null${
      "]}".repeat(20_000)
    }}`;
    for (
      const [name, load] of [["config.json", readModelConfig], ["tokenizer.json", loadTokenizer]] as const
    ) {
      const before = await Deno.readTextFile(join(folder, name));
      await Deno.writeTextFile(join(folder, name), deep);
      await assert.rejects(load(folder), (error) => {
        assert.ok(error instanceof InputError, String(error));
        assert.match(
          error.message,
          new RegExp(`^${name.replace(".", "\\.")} (is nested more than 100 deep|is not JSON)`),
        );
        return true;
      });
      await Deno.writeTextFile(join(folder, name), before);
    }
  }));

Deno.test("checkPatterns() refuses patterns that together take longer than anyone waits", async () => {
  await withModel(async (folder) => {
    const modules = linearModules(await readModelConfig(folder));
    const slow = (i: number) => [`.*.*.*.*.*.*(down_proj|${i}_)`, 4] as const;
    const rank_pattern = Object.fromEntries(Array.from({ length: 2000 }, (_, i) => slow(i)));
    await refused(
      () => Promise.try(() => checkPatterns(modules, { rank_pattern })),
      /rank_pattern is .* in a second/,
    );
  });
});
