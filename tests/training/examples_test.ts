import assert from "node:assert/strict";
import { join } from "node:path";
import type { Dataset } from "../../src/engine/protocol.ts";
import { InputError } from "../../src/errors.ts";
import { EncodePool } from "../../src/preference/encode_pool.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { readExamples } from "../../src/training/examples.ts";
import { datasetOf } from "../helpers/settings.ts";
import { VALUES } from "../reference/values.ts";
import { chatml, llama3, withFiles } from "../preference/_tokenizers.ts";

const settings = {
  max_length: 24,
  max_prompt_length: 8,
  truncation_mode: "keep_end",
  prompt_boundary: "trl",
} as const;

function read(dataset: Dataset, vocabulary = 1000, pause = () => Promise.resolve()) {
  return readExamples(dataset, "preference", chatml, settings, vocabulary, pause);
}

const row = (prompt: string, chosen = "x", rejected = "y") => ({ prompt, chosen, rejected });

function inputError(field: string | RegExp, message: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.field, typeof field === "string" ? new RegExp(`^${field}$`) : field);
    assert.match(error.message, message);
    return true;
  };
}

Deno.test("readExamples() reads a file as it reads rows, and counts what was cut", async () => {
  const rows = [
    row("one"),
    row("a prompt of more than eight", "response"),
    row("p", "z".repeat(40)),
    row("", "", "b"),
  ];
  await withFiles({ "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") }, async (dir) => {
    const examples = await read({ path: join(dir, "rows.jsonl") });
    assert.deepEqual(await read(datasetOf(rows)), examples);
    assert.deepEqual(examples.groups.map(({ row }) => row), [1, 2, 3]);
    assert.equal(examples.prompts_cut, 1);
    assert.equal(examples.responses_cut, 1);
    assert.deepEqual(examples.left_out, [{ row: 4, reason: "response 1 of 2 is empty" }]);
  });
});

Deno.test("readExamples() names the row at fault by its number", async () => {
  const files = {
    "wrong.jsonl": `${JSON.stringify(row("a"))}\n{"prompt": "b", "chosen": 3, "rejected": "c"}\n`,
    "broken.jsonl": `${JSON.stringify(row("a"))}\n\n{"prompt": "b"\n`,
  };
  await withFiles(files, async (dir) => {
    const wrong = inputError("wrong.jsonl: row 2: chosen", /^wrong\.jsonl: row 2: chosen must be/);
    await assert.rejects(read({ path: join(dir, "wrong.jsonl") }), wrong);
    const broken = inputError("broken.jsonl: row 3", /^broken\.jsonl: row 3 is not JSON/);
    await assert.rejects(read({ path: join(dir, "broken.jsonl") }), broken);
  });
});

Deno.test("readExamples() refuses token ids that the model has no embedding for", async () => {
  const rows = [row("abc"), row("d\u00ff")];
  assert.equal((await read(datasetOf(rows), 260)).groups.length, 2);
  await assert.rejects(
    read(datasetOf(rows), 257),
    inputError("row 1", /^Row 1 has the token id 25[89], but the model's vocabulary has 257 entries\.$/),
  );
});

Deno.test("readExamples() pauses every few rows, and stops where the pause throws", async () => {
  const rows = Array.from({ length: 300 }, (_, i) => row(`prompt ${i}`));
  let pauses = 0;
  await read(datasetOf(rows), 1000, () => Promise.resolve(void pauses++));
  assert.ok(pauses >= 4, `${pauses} pauses`);
  const stop = new Error("stop");
  await assert.rejects(read(datasetOf(rows), 1000, () => Promise.reject(stop)), (error) => error === stop);
});

Deno.test("readExamples() reads likelihood rows with one response each", async () => {
  const rows = [{ prompt: "a", completion: "b" }, { text: "some text" }, {
    messages: [{ role: "user", content: "q" }, { role: "assistant", content: "a" }],
  }];
  const { groups } = await readExamples(
    datasetOf(rows, "sft"),
    "sft",
    llama3,
    settings,
    1000,
    () => Promise.resolve(),
  );
  assert.deepEqual(groups.map(({ responses }) => responses.length), [1, 1, 1]);
});

const chat_template =
  "{% for turn in messages %}{{ raise_exception('never') if turn.content == 'no' else turn.content }}{% endfor %}";
const job = { model: `${VALUES}/tokens/llama3`, chat_template, settings, vocabulary: 100_000 };
const tokenizer = (await loadTokenizer(job.model)).withChatTemplate(chat_template);

/** As a job reads them: others are let in by a timer. */
const others = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** With as many Workers, none for 0. */
async function readWith(workers: number, rows: readonly unknown[] | Dataset, pause = others) {
  using pool = workers === 0 ? null : new EncodePool(job, { size: workers });
  await pool?.start();
  const dataset = "length" in rows ? datasetOf(rows) : rows;
  return await readExamples(dataset, "preference", tokenizer, settings, job.vocabulary, pause, pool);
}

const manyRows: readonly unknown[] = Array.from({ length: 700 }, (_, i) => {
  if (i % 97 === 0) return row(`prompt ${i}`, "");
  const prompt = [{ role: "user", content: `\u00fc prompt ${i} `.repeat(i % 7) }];
  return i % 3 === 0 ? { ...row("", `x${i}`), prompt } : row(`p${i} `, "chosen ".repeat(i % 50), `y${i}`);
});

Deno.test("readExamples() gives the same groups, rows left out and counts with any number of Workers", async () => {
  const alone = await readWith(0, manyRows);
  assert.ok(alone.left_out.length > 7 && alone.prompts_cut > 50 && alone.responses_cut > 50);
  assert.equal(alone.groups.length + alone.left_out.length, 700);
  for (const workers of [1, 2, 3]) assert.deepEqual(await readWith(workers, manyRows), alone);
});

Deno.test("readExamples() starts Workers in the middle of a data set to no effect", async () => {
  using pool = new EncodePool(job, { size: 2, after: 1000 });
  const started = async () => {
    await others();
    await pool.start();
  };
  const rows = Array.from({ length: 2 }, () => manyRows).flat();
  const read = await readExamples(
    datasetOf(rows),
    "preference",
    tokenizer,
    settings,
    job.vocabulary,
    started,
    pool,
  );
  assert.deepEqual(read, await readWith(0, rows));
});

Deno.test("readExamples() names the first row at fault with any number of Workers", async () => {
  const wrong = { prompt: "b", chosen: 3, rejected: "c" };
  const refused = { ...row(""), prompt: [{ role: "user", content: "no" }] };
  for (const [first, second] of [[wrong, refused], [refused, wrong]]) {
    const rows = manyRows.with(300, first).with(310, second).with(600, first);
    await withFiles({ "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") }, async (dir) => {
      const file = { path: join(dir, "rows.jsonl") };
      const named = inputError(/row 301/, /^rows\.jsonl: row 301: chosen must|^Row 301: .*never/);
      for (const workers of [0, 1, 3]) await assert.rejects(readWith(workers, file), named);
    });
  }
});

Deno.test("readExamples() ends where the pause throws while Workers are at it", async () => {
  let pauses = 0;
  const stop = new Error("stop");
  const pause = async () => {
    await others();
    if (++pauses > 2) throw stop;
  };
  await assert.rejects(readWith(2, manyRows, pause), (error) => error === stop);
});
