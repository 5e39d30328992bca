import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError, within } from "../../src/errors.ts";
import { readDataFiles, type SourceRow } from "../../src/preference/data_files.ts";
import type { Comparison, RowKind } from "../../src/preference/rows.ts";
import { parseRow } from "../helpers/settings.ts";
import { withFiles } from "./_tokenizers.ts";

const user = (content: string) => ({ role: "user", content });
const assistant = (content: string) => ({ role: "assistant", content });

function refused(value: unknown, kind: RowKind, message: RegExp, field: string) {
  assert.throws(() => within([{ row: 7 }], () => parseRow(value, 7, kind)), (error) => {
    assert(error instanceof InputError);
    assert.match(error.message, message);
    assert.match(error.message, /\b[Rr]ow 7\b/);
    assert.equal(error.field, field);
    return true;
  });
}

Deno.test("parseRow() takes prompt, chosen and rejected as strings", () => {
  assert.deepEqual(parseRow({ prompt: "p", chosen: "c", rejected: "r", score: 3 }, 7, "preference"), {
    row: 7,
    prompt: "p",
    responses: ["c", "r"],
  });
});

Deno.test("parseRow() takes prompt, chosen and rejected as message lists, with keys beyond role and content", () => {
  const prompt = [{ role: "system", content: "s", name: "boss" }, user("q")];
  const row = { prompt, chosen: [assistant("c")], rejected: [assistant("r")] };
  assert.deepEqual(parseRow(row, 1, "preference"), {
    row: 1,
    prompt,
    responses: [[assistant("c")], [assistant("r")]],
  });
});

Deno.test("parseRow() takes strings as responses to a prompt of messages, and messages to a prompt string", () => {
  assert.deepEqual(
    parseRow({ prompt: [user("q")], chosen: "c", rejected: [assistant("r")] }, 1, "preference"),
    {
      row: 1,
      prompt: [user("q")],
      responses: ["c", [assistant("r")]],
    },
  );
  assert.deepEqual(
    parseRow({ prompt: "q", chosen: [assistant("c")], rejected: [assistant("r")] }, 1, "preference"),
    {
      row: 1,
      prompt: "q",
      responses: [[assistant("c")], [assistant("r")]],
    },
  );
});

Deno.test("parseRow() takes the shared turns before the last as the implicit prompt", () => {
  const turns = [user("a"), assistant("b"), user("c")];
  const expected = { row: 1, prompt: turns, responses: [[assistant("x")], [assistant("y")]] };
  const whole = { chosen: [...turns, assistant("x")], rejected: [...turns, assistant("y")] };
  assert.deepEqual(parseRow(whole, 1, "preference"), expected);
  // The same with the first user turn in a column of its own, or with the prompt's turns repeated.
  assert.deepEqual(parseRow({ ...whole, prompt: "a " }, 1, "preference"), expected);
  assert.deepEqual(parseRow({ ...whole, prompt: turns }, 1, "preference"), expected);
});

Deno.test("parseRow() leaves the last turn a response where chosen equals rejected", () => {
  const whole = [user("q"), assistant("same")];
  assert.deepEqual(parseRow({ chosen: whole, rejected: whole }, 1, "preference"), {
    row: 1,
    prompt: [user("q")],
    responses: [[assistant("same")], [assistant("same")]],
  });
});

Deno.test("parseRow() splits whole strings where they part, before the space and never inside a character", () => {
  const split = (chosen: string, rejected: string) => {
    const { prompt, responses } = parseRow({ chosen, rejected }, 1, "preference");
    return [prompt, ...responses];
  };
  assert.deepEqual(split("Q: hi A: yes", "Q: hi A: no"), ["Q: hi A:", " yes", " no"]);
  assert.deepEqual(split("say \u{1F600}", "say \u{1F601}"), ["say", " \u{1F600}", " \u{1F601}"]);
});

Deno.test("parseRow() takes OpenAI's preference rows", () => {
  const row = {
    input: { messages: [user("q")], tools: [], parallel_tool_calls: true },
    preferred_output: [assistant("c")],
    non_preferred_output: [assistant("r")],
  };
  assert.deepEqual(parseRow(row, 2, "preference"), {
    row: 2,
    prompt: [user("q")],
    responses: [[assistant("c")], [assistant("r")]],
  });
  const tools = [{ type: "function" }];
  assert.deepEqual(
    parseRow({ ...row, input: { messages: [user("q")], tools } }, 1, "preference").tools,
    tools,
  );
  refused({ ...row, input: {} }, "preference", /missing/, "row 7: input.messages");
});

Deno.test("parseRow() takes the three shapes of sft rows", () => {
  const parsed = (row: unknown): Omit<Comparison, "row"> => {
    const { prompt, responses } = parseRow(row, 1, "sft");
    return { prompt, responses };
  };
  assert.deepEqual(parsed({ prompt: "p", completion: "c" }), { prompt: "p", responses: ["c"] });
  assert.deepEqual(parsed({ prompt: [user("q")], completion: [assistant("c")] }), {
    prompt: [user("q")],
    responses: [[assistant("c")]],
  });
  assert.deepEqual(parsed({ text: "t" }), { prompt: "", responses: ["t"] });
  const turns = [user("a"), assistant("b"), user("c"), assistant("d")];
  assert.deepEqual(parsed({ messages: turns }), { prompt: turns.slice(0, 3), responses: [[assistant("d")]] });
  assert.deepEqual(parsed({ messages: turns.slice(0, 3) }), {
    prompt: [user("a")],
    responses: [[assistant("b")]],
  });
});

Deno.test("parseRow() refuses what it cannot use and names row, field and what it would take", () => {
  refused([], "preference", /must be an object, not a list/, "row 7");
  refused({ prompt: "p", chosen: "c" }, "preference", /its keys are prompt, chosen/, "row 7");
  refused({ prompt: "p" }, "sft", /\{prompt, completion\}, \{messages\} or \{text\}/, "row 7");
  refused({ prompt: 5, chosen: "c", rejected: "r" }, "preference", /not number 5/, "row 7: prompt");
  refused({ prompt: "p", chosen: "c", rejected: null }, "preference", /not null/, "row 7: rejected");
  refused({ prompt: "p", chosen: "c", rejected: [assistant("r")] }, "preference", /both/, "row 7: rejected");
  refused(
    { chosen: [user("a"), assistant("b")], rejected: [user("c"), assistant("d")] },
    "preference",
    /share no turn/,
    "row 7: prompt",
  );
  refused(
    { prompt: "z", chosen: [user("a"), assistant("b")], rejected: [user("a"), assistant("d")] },
    "preference",
    /not a turn/,
    "row 7: prompt",
  );
  refused(
    { prompt: [{ role: "user" }], chosen: "c", rejected: "r" },
    "preference",
    /content must be a string; it is missing/,
    "row 7: prompt[0].content",
  );
  refused({ messages: [user("a")] }, "sft", /assistant turn/, "row 7: messages");
  refused({ text: ["a"] }, "sft", /must be a string/, "row 7: text");
  refused({ text: "a", tools: "f" }, "sft", /tools/, "row 7: tools");
});

async function readAll(content: string | Uint8Array): Promise<SourceRow[]> {
  return await withFiles({}, async (dir) => {
    const path = join(dir, "rows.jsonl");
    await (typeof content === "string" ? Deno.writeTextFile(path, content) : Deno.writeFile(path, content));
    return await Array.fromAsync(readDataFiles([path]));
  });
}

Deno.test("readDataFiles() numbers rows by their lines, skips empty ones and takes CRLF, a BOM and a missing last line feed", async () => {
  const rows = await readAll('\uFEFF{"text":"a"}\r\n\n   \n{"text":"ü"}');
  assert.deepEqual(rows.map(({ row, value }) => [row, value]), [[1, { text: "a" }], [4, { text: "ü" }]]);
  assert.deepEqual(await readAll(""), []);
});

Deno.test("readDataFiles() joins lines that are longer than one read", async () => {
  const texts = ["x".repeat(200_000), "y".repeat(70_000), "z"];
  const rows = await readAll(texts.map((text) => JSON.stringify({ text }) + "\n").join(""));
  assert.deepEqual(rows.map(({ value }) => value), texts.map((text) => ({ text })));
});

Deno.test("readDataFiles() says which line alone cannot be read, and goes on", async () => {
  const file = "rows.jsonl";
  const [, broken, next] = await readAll('{"text":"a"}\n\n{"text":\n{"text":"b"}\n');
  assert.match(broken?.problem ?? "", /^is not JSON: /);
  assert.deepEqual([broken?.row, next], [3, { row: 4, file, value: { text: "b" } }]);
  const bytes = new TextEncoder().encode('{"text":"a"}\n{"text":"?"}\n');
  bytes[bytes.indexOf(0x3f)] = 0xff;
  assert.deepEqual((await readAll(bytes))[1], { row: 2, file, problem: "is not UTF-8" });
});

Deno.test("readDataFiles() names a missing file", async () => {
  await assert.rejects(Array.fromAsync(readDataFiles(["no/such.jsonl"])), {
    name: "InputError",
    message: "such.jsonl is not there.",
  });
});
