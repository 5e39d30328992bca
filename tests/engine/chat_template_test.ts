/** Templates of a request, a job and an adapter through training, scoring and merging. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exportMerged } from "../../src/model/export.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { chatRows } from "../helpers/tiny_model.ts";
import { filesOf, itemOf, Lab, loggedMeans, logprobsOf, meansOf } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const ROWS = chatRows(2);
const OTHER =
  "{% for message in messages %}[{{ message.role }}] {{ message.content }}{{ eos_token }}\n{% endfor %}" +
  "{% if add_generation_prompt %}[assistant] {% endif %}";
const THIRD = OTHER.replaceAll("[", "<").replaceAll("]", ">");

async function scores(
  options: { adapter?: string; model?: string; chat_template?: string } = {},
): Promise<number[]> {
  return logprobsOf(await lab.score(ROWS.map(itemOf), options));
}

Deno.test("score() writes a conversation with the request's template, whatever other requests have", async () => {
  const own = await scores();
  const other = await scores({ chat_template: OTHER });
  assert.notDeepEqual(other, own);
  assert.deepEqual(await scores(), own);
  // As if it were in the model's files.
  const model = await lab.writeModel("templated");
  await Deno.writeTextFile(join(model, "chat_template.jinja"), OTHER);
  assert.deepEqual(await scores({ model }), other);
  assert.deepEqual(await scores({ model, chat_template: THIRD }), await scores({ chat_template: THIRD }));
  const mixed = [{}, { chat_template: OTHER }, {}, { chat_template: OTHER }].map(scores);
  // they share batches, which may change the last digits
  assertClose((await Promise.all(mixed)).flat(), [own, other, own, other].flat(), { rtol: 1e-6 });
});

Deno.test("score() names the item that the request's template refuses", async () => {
  const chat_template = "{% if messages[0].content == 'no' %}{{ raise_exception('not no') }}{% endif %}a" +
    OTHER;
  const item = (content: string) => ({ prompt: [{ role: "user", content }], candidates: ["a"] });
  await assert.rejects(lab.score([item("yes"), item("no")], { chat_template }), {
    name: "InputError",
    message: "items[1].prompt: The chat template refuses the messages: not no",
    problem: { path: [], value: ["user"], accepted: "turns that the chat template allows" },
  });
});

for (const lora of [{ r: 2 }, null]) {
  Deno.test(`a job's template goes with its ${lora === null ? "weights" : "adapter"}`, async () => {
    const options = { rows: ROWS, eval_rows: ROWS, lora, max_steps: 1, chat_template: OTHER };
    const { result, metrics } = await lab.train(options);
    assert.equal(await Deno.readTextFile(join(result, "chat_template.jinja")), OTHER);
    const scored = await scores({ adapter: result });
    assert.deepEqual(scored, await scores({ adapter: result, chat_template: OTHER }));
    assert.notDeepEqual(scored, await scores({ adapter: result, chat_template: THIRD }));
    assertClose(meansOf(scored), loggedMeans(metrics.at(-1)!, "eval_"), { rtol: 1e-5 });
    if (lora === null) return;
    const merged = lab.path("merged");
    await exportMerged(lab.model, result, merged);
    for (const folder of [result, merged]) {
      assert.equal(await Deno.readTextFile(join(folder, "chat_template.jinja")), OTHER);
      const config = JSON.parse(await Deno.readTextFile(join(folder, "tokenizer_config.json")));
      assert.deepEqual([config.chat_template, config.bos_token], [undefined, "<|begin|>"]);
    }
  });
}

Deno.test("a job without a template leaves the model's beside its adapter, where the model has it", async () => {
  const { result } = await lab.train({ rows: ROWS, lora: { r: 2 }, max_steps: 1 });
  assert.deepEqual(Object.keys(await filesOf(result)).sort(), [
    "adapter_config.json",
    "adapter_model.safetensors",
    "checksums.json",
    "tokenizer.json",
    "tokenizer_config.json",
  ]);
  const template = async (folder: string) => (await loadTokenizer(folder)).chatTemplate;
  assert.equal(await template(result), await template(lab.model));
});

Deno.test("train() names the row that its template refuses", async () => {
  const chat_template = "{{ raise_exception('never') }}";
  await assert.rejects(lab.train({ rows: ROWS, max_steps: 1, chat_template }), {
    name: "InputError",
    message: /^dataset: row 1 cannot be used: The chat template refuses the messages: never\./,
  });
});

Deno.test("score() refuses all candidates at once where the template passes a bound, and says which", async () => {
  const chat_template = OTHER +
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
  const item = {
    prompt: [{ role: "user", content: "q" }],
    candidates: Array.from({ length: 64 }, (_, i) => `${i}`),
  };
  await assert.rejects(lab.score([item], { chat_template }), {
    name: "InputError",
    message: /^items\[0\]\.prompt: The chat template is stopped: it takes more than \d+ (steps|ms)\.$/,
  });
});

Deno.test("score() reads the template that an adapter keeps in tokenizer_config.json", async () => {
  const options = { rows: ROWS, lora: { r: 2 }, max_steps: 1 };
  const { result } = await lab.train(options);
  const plain = await scores({ adapter: result });
  const kept = lab.path("kept");
  await Deno.mkdir(kept);
  for (const name of ["adapter_config.json", "adapter_model.safetensors"]) {
    await Deno.copyFile(join(result, name), join(kept, name));
  }
  await Deno.writeTextFile(join(kept, "tokenizer_config.json"), JSON.stringify({ chat_template: OTHER }));
  const scored = await scores({ adapter: kept });
  assert.notDeepEqual(scored, plain);
  assert.deepEqual(scored, await scores({ adapter: result, chat_template: OTHER }));
});

for (const lora of [{ r: 2 }, null]) {
  Deno.test(`a job that names one of the model's templates keeps its text beside its ${lora === null ? "weights" : "adapter"}`, async () => {
    const model = await lab.writeModel(`named-${lora === null}`);
    await Deno.mkdir(join(model, "additional_chat_templates"));
    await Deno.writeTextFile(join(model, "additional_chat_templates/tool_use.jinja"), OTHER);
    await Deno.writeTextFile(join(model, "chat_template.jinja"), THIRD);
    const options = { model, rows: ROWS, eval_rows: ROWS, lora, max_steps: 1, chat_template: "tool_use" };
    const { result, metrics } = await lab.train(options);
    assert.equal(await Deno.readTextFile(join(result, "chat_template.jinja")), OTHER);
    const scored = await scores({ model, adapter: result });
    assertClose(meansOf(scored), loggedMeans(metrics.at(-1)!, "eval_"), { rtol: 1e-5 });
    const plain = await lab.train({ model, rows: ROWS, lora, max_steps: 1 });
    const names = Object.keys(await filesOf(plain.result));
    assert.ok(names.includes("additional_chat_templates/tool_use.jinja"), String(names));
  });
}
