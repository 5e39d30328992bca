/** A job's files as Hugging Face's libraries and their users expect them, from a real worker. */
import assert from "node:assert/strict";
import { unpackTar } from "modern-tar";
import { join } from "node:path";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { filesOf } from "../engine/_lab.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { startFakeHub } from "../helpers/fake_hub.ts";
import { openToOthers } from "../helpers/modes.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { makeRealRoot, Worker } from "./_worker.ts";

const ROWS = plainRows(4);
const JOB = {
  model: "models/tiny_bf16",
  dataset: { rows: ROWS },
  max_steps: 1,
  batch_size: 4,
  learning_rate: 1e-2,
  max_length: 96,
  save_steps: 0,
};

const root = await makeRealRoot();
const hub = startFakeHub();
const bf16 = await writeTinyModel(join(root.path, "models", "tiny_bf16"), { dtype: "BF16" });
hub.repositories.set("org/name", new Map(Object.entries(await filesOf(bf16))));
const worker = await Worker.start(root.path, { HF_ENDPOINT: hub.url, SIMPO_HOSTS: hub.fileHost });
Deno.test.afterAll(async () => {
  await worker[Symbol.asyncDispose]();
  await hub[Symbol.asyncDispose]();
  await root[Symbol.asyncDispose]();
});

/** Trains to the end. @returns the job's id */
async function train(fields: Record<string, unknown> = {}): Promise<string> {
  const { status, body } = await worker.post("/train", { ...JOB, ...fields });
  assert.equal(status, 202, JSON.stringify(body));
  await Array.fromAsync(worker.events(body.id, 0));
  return body.id;
}

/** Unpacks a job's archive under the root. @returns its folder */
async function unpack(id: string, format: string): Promise<string> {
  const response = await fetch(`${worker.url}/train/${id}/adapter?format=${format}`);
  assert.equal(response.status, 200);
  const name = `${id}-${format}`;
  await Deno.mkdir(join(root.path, name));
  for (const { header, data } of await unpackTar(await response.bytes(), { strict: true })) {
    await Deno.writeFile(join(root.path, name, header.name), data!);
  }
  return name;
}

async function readJson(...path: string[]) {
  return JSON.parse(await Deno.readTextFile(join(root.path, ...path)));
}

async function score(model: string, adapter?: string): Promise<number[]> {
  const items = ROWS.map(({ prompt, chosen, rejected }) => ({ prompt, candidates: [chosen, rejected] }));
  const { status, body } = await worker.post("/score", { model, items, ...(adapter && { adapter }) });
  assert.equal(status, 200, JSON.stringify(body));
  return body.items.flatMap(({ results }: { results: { average_logprob: number }[] }) =>
    results.map(({ average_logprob }) => average_logprob)
  );
}

Deno.test("GET /train/{id}/adapter names the base by the hub's name and revision, or the folder as given", async () => {
  const bases: Record<string, [string, string | null]> = {
    "hf://org/name@v1": ["org/name", "v1"],
    "hf://org/name": ["org/name", null],
    "models/tiny": ["models/tiny", null],
  };
  for (const [model, expected] of Object.entries(bases)) {
    const id = await train({ model });
    const folder = await unpack(id, "adapter");
    const { base_model_name_or_path, revision } = await readJson(folder, "adapter_config.json");
    assert.deepEqual([base_model_name_or_path, revision], expected);
    assertClose(await score(model, folder), await score(model, id), { rtol: 1e-6, relativeTo: "element" });
  }
});

Deno.test("GET /train/{id}/adapter carries the tokenizer, the chat template that was trained with and a model card", async () => {
  const chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}";
  const id = await train({ model: "hf://org/name@v1", chat_template, eval_dataset: { rows: ROWS } });
  const { metrics } = (await worker.get(`/train/${id}`)).body;
  for (const format of ["adapter", "merged"]) {
    const folder = await unpack(id, format);
    const text = (name: string) => Deno.readTextFile(join(root.path, folder, name));
    assert.equal(await text("tokenizer.json"), await Deno.readTextFile(join(bf16, "tokenizer.json")));
    assert.equal(await text("chat_template.jinja"), chat_template);
    const card = await text("README.md");
    const [, front, rest] = card.split("---\n") as [string, string, string];
    const library = format === "adapter" ? "peft" : "transformers";
    for (
      const line of [
        'base_model: "org/name"',
        `library_name: ${library}`,
        "pipeline_tag: text-generation",
        '- "lora"',
      ]
    ) assert.ok(front.includes(`${line}\n`), `${line} in ${front}`);
    assert.match(rest, /revision `v1`/);
    assert.match(rest, /training: `{"rows":4}`/);
    assert.match(rest, /"learning_rate": 0.01,/);
    assert.ok(rest.includes(`| eval_loss | ${metrics.eval_loss} |`), rest);
    assert.match(rest, format === "adapter" ? /AutoPeftModelForCausalLM/ : /AutoModelForCausalLM/);
  }
});

for (const lora of [undefined, null]) {
  const format = lora === null ? "full" : "merged";
  Deno.test(`save_dtype is the type of ${format} weights, the base file's where it is left out`, async () => {
    const types = { none: "BF16", bf16: "BF16", f16: "F16", f32: "F32" };
    const names: Record<string, string> = { BF16: "bfloat16", F16: "float16", F32: "float32" };
    for (const [save_dtype, expected] of Object.entries(types)) {
      const id = await train({
        ...(lora === null && { lora }),
        ...(save_dtype !== "none" && { save_dtype }),
      });
      const folder = await unpack(id, format);
      assert.equal((await readJson(folder, "config.json")).dtype, names[expected]);
      using weights = await WeightFiles.open(join(root.path, folder));
      assert.deepEqual(new Set(weights.names().map((name) => weights.info(name).dtype)), new Set([expected]));
      const rtol = lora === null ? 1e-6 : save_dtype === "f32" ? 1e-5 : 2e-2;
      assertClose(await score(folder), await score(JOB.model, id), { rtol, relativeTo: "element" });
    }
  });
}

Deno.test("save_dtype f16 refuses weights that it cannot hold, by name and number", async () => {
  await writeTinyModel(join(root.path, "models", "large"), {
    tied: false,
    change: (name, values) => {
      if (name === "model.embed_tokens.weight") values[1] = 65520; // of a byte that no row has
    },
  });
  const fields = { model: "models/large", save_dtype: "f16" };
  const detail = "save_dtype f16 cannot hold 65520, a number of model.embed_tokens.weight.";
  const merged = await worker.get(`/train/${await train(fields)}/adapter?format=merged`);
  assert.deepEqual([merged.status, merged.body.detail, merged.body.field], [422, detail, "save_dtype"]);
  const full =
    (await worker.get(`/train/${await train({ ...fields, lora: null, learning_rate: 0.001 })}`)).body;
  assert.deepEqual([full.status, full.error?.field], ["failed", "save_dtype"]);
});

Deno.test("what the jobs above have left is for the worker's own user alone", async () => {
  assert.ok((await worker.get("/train")).body.jobs.length > 0);
  assert.deepEqual(await openToOthers(join(root.path, "state")), []);
});
