import assert from "node:assert/strict";
import { join } from "node:path";
import type { RowSource } from "../../src/engine/protocol.ts";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { InputError } from "../../src/errors.ts";
import { EncodePool } from "../../src/preference/encode_pool.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { readExamples, type ReadOptions } from "../../src/training/examples.ts";
import { datasetOf } from "../helpers/settings.ts";
import { VALUES } from "../reference/values.ts";
import { chatml, llama3, withFiles } from "../preference/_tokenizers.ts";

const settings = {
  max_length: 24,
  max_prompt_length: 8,
  truncation_mode: "keep_end",
  prompt_boundary: "trl",
} as const;

/** A source's groups, and what is said of them. */
async function read(source: RowSource, options: Partial<ReadOptions> = {}) {
  const groups: EncodedGroup[] = [];
  const { groups: _, report, ...cut } = await readExamples(source, {
    kind: "preference",
    tokenizer: chatml,
    settings,
    vocabulary: 1000,
    maxLeftOut: 0.5,
    pause: () => Promise.resolve(),
    ...options,
  }, (group) => groups.push(group));
  return { groups, ...report, ...cut };
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
    assert.deepEqual((await read(datasetOf(rows))).groups, examples.groups);
    assert.deepEqual(examples.groups.map(({ row }) => row), [1, 2, 3]);
    assert.equal(examples.prompts_cut, 1);
    assert.equal(examples.responses_cut, 1);
    assert.deepEqual(examples.left_out.first, [{ row: 4, reason: "response 1 of 2 is empty" }]);
  });
});

Deno.test("readExamples() leaves rows at fault out by number and reason, as many as may be", async () => {
  const bad = [
    "null",
    '{"prompt": "b", "chosen": 3, "rejected": "c"}',
    '{"prompt": "b"',
    '{"prompt": [], "chosen": "a", "rejected": "c"}',
    '{"prompt": "", "chosen": "", "rejected": "c"}',
  ];
  const good = Array.from({ length: 15 }, (_, i) => JSON.stringify({ ...row(`p${i}`), score: i }));
  await withFiles({ "rows.jsonl": [...bad, ...good].join("\n") }, async (dir) => {
    const source = { path: join(dir, "rows.jsonl") };
    const { groups, rows, left_out } = await read(source, { maxLeftOut: 0.25 });
    assert.deepEqual([groups.length, rows, left_out.count, left_out.faults], [15, 20, 5, 5]);
    assert.deepEqual(left_out.first.map(({ row }) => row), [1, 2, 3, 4, 5]);
    assert.match(left_out.first[2]!.reason, /^is not JSON/);
    await assert.rejects(read(source, { maxLeftOut: 0.2 }), (error) => {
      assert.ok(error instanceof InputError);
      assert.equal(error.field, "rows.jsonl: row 1");
      assert.match(
        error.message,
        /^rows\.jsonl: row 1 must be an object, not null\. In all 5 of 20 rows cannot be used/,
      );
      assert.match(error.message, /max_left_out 0\.2 allows 4: row 2: chosen must be .*; row 3: is not JSON/);
      return true;
    });
  });
});

Deno.test("readExamples() lets one row of a few be at fault, unless none may", async () => {
  await withFiles({ "rows.jsonl": `${JSON.stringify(row("a"))}\n{"prompt": "b"}\n` }, async (dir) => {
    const source = { path: join(dir, "rows.jsonl") };
    assert.equal((await read(source, { maxLeftOut: 0.1 })).groups.length, 1);
    const strict = inputError("rows.jsonl: row 2", /its keys are prompt\. No row may be left out/);
    await assert.rejects(read(source, { maxLeftOut: 0 }), strict);
  });
});

Deno.test("readExamples() leaves out without a fault what a method does not learn from", async () => {
  const rows = [true, false, false].map((label) => ({ prompt: "p", completion: "c", label }));
  await withFiles({ "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") }, async (dir) => {
    const { groups, left_out } = await read({ path: join(dir, "rows.jsonl") }, {
      kind: "sft",
      maxLeftOut: 0,
    });
    assert.deepEqual([groups.length, left_out.count, left_out.faults], [1, 2, 0]);
    assert.match(left_out.reasons[0]!.reason, /^label is false/);
  });
});

Deno.test("readExamples() reads a source's first rows where it has a limit", async () => {
  const rows = Array.from({ length: 9 }, (_, i) => JSON.stringify(row(`p${i}`)));
  await withFiles({ "rows.jsonl": rows.join("\n") }, async (dir) => {
    const { groups, rows } = await read({ path: join(dir, "rows.jsonl"), limit: 4 });
    assert.deepEqual([groups.map(({ row }) => row), rows], [[1, 2, 3, 4], 4]);
  });
});

Deno.test("readExamples() refuses token ids that the model has no embedding for", async () => {
  const rows = [row("abc"), row("d\u00ff")];
  assert.equal((await read(datasetOf(rows), { vocabulary: 260 })).groups.length, 2);
  await assert.rejects(
    read(datasetOf(rows), { vocabulary: 257 }),
    inputError("row 1", /^Row 1 has the token id 25[89], but the model's vocabulary has 257 entries\.$/),
  );
});

Deno.test("readExamples() pauses every few rows, and stops where the pause throws", async () => {
  const rows = Array.from({ length: 300 }, (_, i) => row(`prompt ${i}`));
  let pauses = 0;
  await read(datasetOf(rows), { pause: () => Promise.resolve(void pauses++) });
  assert.ok(pauses >= 4, `${pauses} pauses`);
  const stop = new Error("stop");
  await assert.rejects(
    read(datasetOf(rows), { pause: () => Promise.reject(stop) }),
    (error) => error === stop,
  );
});

Deno.test("readExamples() reads likelihood rows with one response each", async () => {
  const rows = [{ prompt: "a", completion: "b" }, { text: "some text" }, {
    messages: [{ role: "user", content: "q" }, { role: "assistant", content: "a" }],
  }];
  const { groups } = await read(datasetOf(rows, "sft"), { kind: "sft", tokenizer: llama3 });
  assert.deepEqual(groups.map(({ responses }) => responses.length), [1, 1, 1]);
});

const chat_template =
  "{% for turn in messages %}{{ raise_exception('never') if turn.content == 'no' else turn.content }}{% endfor %}";
const job = { model: `${VALUES}/tokens/llama3`, chat_template, settings, vocabulary: 100_000 };
const tokenizer = (await loadTokenizer(job.model)).withChatTemplate(chat_template);

/** As a job reads them: others are let in by a timer. */
const others = () => new Promise<void>((resolve) => setTimeout(resolve, 0));

/** With as many Workers, none for 0. */
async function readWith(workers: number, rows: readonly unknown[] | RowSource, pause = others) {
  using pool = workers === 0 ? null : new EncodePool(job, { size: workers });
  await pool?.start();
  const dataset = "length" in rows ? datasetOf(rows) : rows;
  return await read(dataset, { tokenizer, vocabulary: job.vocabulary, pause, pool });
}

const manyRows: readonly unknown[] = Array.from({ length: 700 }, (_, i) => {
  if (i % 97 === 0) return row(`prompt ${i}`, "");
  const prompt = [{ role: "user", content: `\u00fc prompt ${i} `.repeat(i % 7) }];
  return i % 3 === 0 ? { ...row("", `x${i}`), prompt } : row(`p${i} `, "chosen ".repeat(i % 50), `y${i}`);
});

Deno.test("readExamples() gives the same groups, rows left out and counts with any number of Workers", async () => {
  const alone = await readWith(0, manyRows);
  assert.ok(alone.left_out.count > 7 && alone.prompts_cut > 50 && alone.responses_cut > 50);
  assert.equal(alone.groups.length + alone.left_out.count, 700);
  for (const workers of [1, 2, 3]) assert.deepEqual(await readWith(workers, manyRows), alone);
});

Deno.test("readExamples() starts Workers in the middle of a data set to no effect", async () => {
  using pool = new EncodePool(job, { size: 2, after: 1000 });
  const started = async () => {
    await others();
    await pool.start();
  };
  const rows = Array.from({ length: 2 }, () => manyRows).flat();
  const options = { tokenizer, vocabulary: job.vocabulary, pause: started, pool };
  assert.deepEqual(await read(datasetOf(rows), options), await readWith(0, rows));
});

Deno.test("readExamples() names the same rows at fault with any number of Workers", async () => {
  const wrong = { prompt: "b", chosen: 3, rejected: "c" };
  const refused = { ...row(""), prompt: [{ role: "user", content: "no" }] };
  for (const [first, second] of [[wrong, refused], [refused, wrong]]) {
    const rows = manyRows.with(300, first).with(310, second).with(600, first);
    await withFiles({ "rows.jsonl": rows.map((row) => JSON.stringify(row)).join("\n") }, async (dir) => {
      const file = { path: join(dir, "rows.jsonl") };
      const alone = await readWith(0, file);
      const found = alone.left_out.first.filter(({ row }) => row > 300 && row < 320);
      assert.deepEqual(found.map(({ row }) => row), [301, 311]);
      for (const workers of [1, 3]) {
        assert.deepEqual((await readWith(workers, file)).left_out, alone.left_out);
      }
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
