import assert from "node:assert/strict";
import { join } from "node:path";
import type { Dataset } from "../../src/engine/protocol.ts";
import { InputError } from "../../src/errors.ts";
import { readExamples } from "../../src/training/examples.ts";
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
    assert.match(error.problem.field, typeof field === "string" ? new RegExp(`^${field}$`) : field);
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
    assert.deepEqual(await read({ rows }), examples);
    assert.deepEqual(examples.groups.map(({ row }) => row), [1, 2, 3]);
    assert.equal(examples.prompts_cut, 1);
    assert.equal(examples.responses_cut, 1);
    assert.deepEqual(examples.left_out, [{ row: 4, reason: "response 1 of 2 is empty" }]);
  });
});

Deno.test("readExamples() names the row at fault by its number", async () => {
  await assert.rejects(
    read({ rows: [row("a"), { prompt: "b", chosen: 3, rejected: "c" }] }),
    inputError(/2/, /2/),
  );
  await withFiles({ "rows.jsonl": `${JSON.stringify(row("a"))}\n\n{"prompt": "b"\n` }, async (dir) => {
    await assert.rejects(read({ path: join(dir, "rows.jsonl") }), inputError(/3/, /3/));
  });
});

Deno.test("readExamples() refuses token ids that the model has no embedding for", async () => {
  const rows = [row("abc"), row("d\u00ff")];
  assert.equal((await read({ rows }, 260)).groups.length, 2);
  await assert.rejects(
    read({ rows }, 257),
    inputError("row 1", /^row 1 has the token id 25[89], but the model's vocabulary has 257 entries\.$/),
  );
});

Deno.test("readExamples() pauses every few rows, and stops where the pause throws", async () => {
  const rows = Array.from({ length: 300 }, (_, i) => row(`prompt ${i}`));
  let pauses = 0;
  await read({ rows }, 1000, () => Promise.resolve(void pauses++));
  assert.ok(pauses >= 4, `${pauses} pauses`);
  const stop = new Error("stop");
  await assert.rejects(read({ rows }, 1000, () => Promise.reject(stop)), (error) => error === stop);
});

Deno.test("readExamples() reads likelihood rows with one response each", async () => {
  const rows = [{ prompt: "a", completion: "b" }, { text: "some text" }, {
    messages: [{ role: "user", content: "q" }, { role: "assistant", content: "a" }],
  }];
  const { groups } = await readExamples({ rows }, "sft", llama3, settings, 1000, () => Promise.resolve());
  assert.deepEqual(groups.map(({ responses }) => responses.length), [1, 1, 1]);
});
