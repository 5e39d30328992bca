import assert from "node:assert/strict";
import { formatPath, InputError, located, type Path, relocated, within } from "../src/errors.ts";
import { fromPlainError, toPlainError } from "../src/plain_error.ts";

const empty = (path: Path = []) => new InputError((field) => `${field} is empty.`, { path, value: "" });

function caught(work: () => unknown): InputError {
  try {
    work();
  } catch (error) {
    assert(error instanceof InputError, String(error));
    return error;
  }
  assert.fail("nothing was thrown");
}

Deno.test("formatPath() writes fields with dots, indices in brackets, and a colon behind a place", () => {
  const paths: [Path, string][] = [
    [[], "body"],
    [["model"], "model"],
    [["items", 0, "candidates", 3], "items[0].candidates[3]"],
    [[{ file: "config.json" }, "rope_scaling", "factor"], "config.json: rope_scaling.factor"],
    [
      ["dataset", { file: "b.jsonl" }, { row: 7 }, "chosen", 0, "content"],
      "dataset: b.jsonl: row 7: chosen[0].content",
    ],
    [[{ line: 3 }], "line 3"],
    [[0, "a"], "[0].a"],
  ];
  for (const [path, text] of paths) assert.equal(formatPath(path), text);
});

Deno.test("within() puts where a part stands in front of what the part knows, at any depth", () => {
  const error = caught(() =>
    within(["items", 0], () =>
      within(["candidates", 3], () => {
        throw empty();
      }))
  );
  assert.deepEqual(error.path, ["items", 0, "candidates", 3]);
  assert.equal(error.field, "items[0].candidates[3]");
  assert.equal(error.message, "items[0].candidates[3] is empty.");
  assert.equal(within(["a"], () => 5), 5);
});

Deno.test("within() waits for work that is under way, and leaves errors of other classes alone", async () => {
  const late = within([{ row: 2 }], async () => {
    await Promise.resolve();
    throw empty(["chosen"]);
  });
  await assert.rejects(late, { name: "InputError", message: "Row 2: chosen is empty." });
  const ours = new TypeError("a bug");
  await assert.rejects(within(["a"], () => Promise.reject(ours)), (error) => error === ours);
  assert.equal(located(ours, ["a"]), ours);
});

Deno.test("an InputError whose sentence names no place gets its context in front, and only that", () => {
  const refuses = new InputError("The template refuses the turns.", { path: ["messages"] });
  assert.equal(refuses.message, "The template refuses the turns.");
  const error = located(refuses, ["dataset", { row: 1 }]) as InputError;
  assert.equal(error.message, "dataset: row 1: The template refuses the turns.");
  assert.equal(error.field, "dataset: row 1: messages");
});

Deno.test("relocated() calls a place what its sender calls it, and leaves other places alone", () => {
  const error = located(empty(["candidates", 1]), ["items", 0]);
  assert.equal((relocated(error, ["items", 0], []) as InputError).message, "candidates[1] is empty.");
  assert.equal(
    (relocated(error, ["items", 0], [{ line: 9 }]) as InputError).message,
    "Line 9: candidates[1] is empty.",
  );
  assert.equal(relocated(error, ["items", 1], []), error);
  const whole = located(new InputError("It is too long.", { path: ["prompt"] }), ["items", 0]);
  assert.equal((relocated(whole, ["items", 0], []) as InputError).message, "It is too long.");
  const inside = relocated(located(empty(["prompt"]), ["items", 0]), ["items", 0, "prompt"], ["messages"]);
  assert.equal((inside as InputError).field, "messages");
});

Deno.test("an error keeps its class, place and sentence between threads", () => {
  const error = located(empty(["prompt"]), ["items", 0]);
  const arrived = fromPlainError(structuredClone(toPlainError(error)));
  assert(arrived instanceof InputError);
  assert.deepEqual([arrived.message, arrived.path, arrived.problem.value], ["items[0].prompt is empty.", [
    "items",
    0,
    "prompt",
  ], ""]);
  // Only where it arrives is the place known in its sender's terms.
  assert.equal(
    (relocated(arrived, ["items", 0, "prompt"], ["messages"]) as InputError).message,
    "messages is empty.",
  );
  assert.equal(fromPlainError(toPlainError(new Error("bug"))).message, "bug");
});
