/** Model files that cannot be used reach the caller as the user's mistake, and the engine goes on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const item = itemOf(plainRows(1)[0]!);
await lab.score([item]);

type Header = Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;

/** Rewrites the header of `model.safetensors`; the tensors' bytes stay. */
async function changeHeader(model: string, change: (header: Header) => void): Promise<void> {
  const path = join(model, "model.safetensors");
  const bytes = await Deno.readFile(path);
  const length = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  change(header);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const prefix = new Uint8Array(8);
  new DataView(prefix.buffer).setBigUint64(0, BigInt(text.length), true);
  await Deno.writeFile(path, new Blob([prefix, text, bytes.subarray(8 + length)]).stream());
}

async function cut(path: string, bytes: number): Promise<void> {
  const whole = await Deno.readFile(path);
  await Deno.writeFile(path, whole.subarray(0, whole.length - bytes));
}

interface Case {
  readonly name: string;
  readonly model: (name: string) => Promise<string>;
  readonly field: RegExp;
  readonly message: RegExp;
}

const NORM = "model.norm.weight";
const K = "model.layers.1.self_attn.k_proj.weight";

const cases: Case[] = [
  {
    name: "NaN in a weight",
    model: (name) => lab.writeModel(name, { change: (weight, values) => weight === K && (values[37] = NaN) }),
    field: /k_proj/,
    message: /^The weight model\.layers\.1\.self_attn\.k_proj\.weight holds NaN or infinity at \[1, 5\]\.$/,
  },
  {
    name: "NaN in a norm",
    model: (name) =>
      lab.writeModel(name, { change: (weight, values) => weight === NORM && (values[3] = NaN) }),
    field: /^model\.norm\.weight$/,
    message: /^The weight model\.norm\.weight holds NaN or infinity at \[3\]\.$/,
  },
  {
    name: "infinity in a bf16 weight",
    model: (name) =>
      lab.writeModel(name, {
        dtype: "BF16",
        change: (weight, values) => weight === K && (values[500] = -Infinity),
      }),
    field: /k_proj/,
    message: /holds NaN or infinity at \[15, 20\]\.$/,
  },
  {
    name: "a truncated file",
    model: async (name) => {
      const model = await lab.writeModel(name);
      await cut(join(model, "model.safetensors"), 10);
      return model;
    },
    field: /^model\.safetensors$/,
    message: /truncated/,
  },
  {
    name: "a header longer than the file",
    model: async (name) => {
      const model = await lab.writeModel(name);
      const path = join(model, "model.safetensors");
      const bytes = await Deno.readFile(path);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length), true);
      await Deno.writeFile(path, bytes);
      return model;
    },
    field: /^model\.safetensors$/,
    message: /announces a header of \d+ bytes, but it can have at most \d+/,
  },
  {
    name: "overlapping tensors",
    model: async (name) => {
      const model = await lab.writeModel(name);
      await changeHeader(model, (header) => {
        const { data_offsets: [begin, end] } = header[K]!;
        header[K]!.data_offsets = [begin - 4, end - 4];
      });
      return model;
    },
    field: /^model\.safetensors$/,
    message: /overlapping/,
  },
  {
    name: "a weight of another shape",
    model: async (name) => {
      const model = await lab.writeModel(name);
      await changeHeader(model, (header) => header[K]!.shape.reverse());
      return model;
    },
    field: /k_proj/,
    message: /has the shape \[32,16\], but the configuration asks for \[16,32\]/,
  },
  {
    name: "a missing weight",
    model: async (name) => {
      const model = await lab.writeModel(name);
      await changeHeader(model, (header) => {
        header["a stranger"] = header[K]!;
        delete header[K];
      });
      return model;
    },
    field: /k_proj/,
    message: /no tensor/,
  },
  {
    name: "a missing shard",
    model: async (name) => {
      const model = await lab.writeModel(name, { sharded: true });
      await Deno.remove(join(model, "model-00002-of-00002.safetensors"));
      return model;
    },
    field: /index\.json/,
    message: /shard .* is missing/,
  },
  {
    name: "a family that is not known",
    model: async (name) => {
      const model = await lab.writeModel(name);
      const config = JSON.parse(await Deno.readTextFile(join(model, "config.json")));
      await Deno.writeTextFile(
        join(model, "config.json"),
        JSON.stringify({ ...config, model_type: "mamba" }),
      );
      return model;
    },
    field: /model_type/,
    message: /mamba/,
  },
  {
    name: "no tokenizer",
    model: async (name) => {
      const model = await lab.writeModel(name);
      await Deno.remove(join(model, "tokenizer.json"));
      return model;
    },
    field: /^tokenizer\.json$/,
    message: /no tokenizer\.json/,
  },
  {
    name: "token ids beyond the vocabulary",
    model: (name) => lab.writeModel(name, { vocabulary: 260 }),
    field: /^items\[0\]\.(prompt|candidates\[0\])$|^dataset: row 1$/,
    message: /has the token id 26\d, but the model's vocabulary has 260 entries\.$/,
  },
];

for (const [i, { name, model, field, message }] of cases.entries()) {
  Deno.test(`score() and train() refuse ${name}, and serve the next request`, async () => {
    const broken = await model(`broken-${i}`);
    const before = (await lab.engine.call("memory", null)).bytes;
    const refused = (error: unknown): boolean => {
      assert.ok(error instanceof InputError, String(error));
      assert.match(error.message, message);
      assert.match(error.field, field);
      return true;
    };
    await assert.rejects(lab.score([item], { model: broken }), refused);
    await assert.rejects(lab.train({ model: broken, max_steps: 1 }), refused);
    await assert.rejects(lab.train({ model: broken, max_steps: 1, lora: null }), refused);
    assert.equal((await lab.score([item])).length, 1);
    assert.equal((await lab.train({ max_steps: 1 })).outcome, "succeeded");
    // token ids are looked at once the model is there: what stays is the model
    if (!/token ids/.test(name)) assert.equal((await lab.engine.call("memory", null)).bytes, before);
  });
}

Deno.test("score() refuses an adapter that does not fit, and serves the next request", async () => {
  const { result } = await lab.train({ max_steps: 1 });
  const path = join(result, "adapter_model.safetensors");
  const whole = await Deno.readFile(path);
  await cut(path, 5);
  await assert.rejects(
    lab.score([item], { adapter: result }),
    (error) => error instanceof InputError && error.field === "adapter_model.safetensors",
  );
  await Deno.writeFile(path, whole);
  assert.equal((await lab.score([item], { adapter: result })).length, 1);
  const config = JSON.parse(await Deno.readTextFile(join(result, "adapter_config.json")));
  await Deno.writeTextFile(join(result, "adapter_config.json"), JSON.stringify({ ...config, r: 5 }));
  await assert.rejects(lab.score([item], { adapter: result }), InputError);
  await assert.rejects(lab.score([item], { adapter: lab.path("nowhere") }), InputError);
});

Deno.test("a model may have more embedding rows than its tokenizer has tokens", async () => {
  const model = await lab.writeModel("padded", { vocabulary: 311 });
  const rows = plainRows(2);
  const items = await lab.score(rows.map(itemOf), { model });
  assert.ok(items.every(({ results }) => results.every(({ average_logprob }) => average_logprob! < 0)));
  const { outcome } = await lab.train({ model, rows, max_steps: 1, lora: null });
  assert.equal(outcome, "succeeded");
});
