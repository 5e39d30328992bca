import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { exampleFiles } from "../../tasks/example.ts";
import { learnMerges } from "../../tasks/example/byte_pair_encoding.ts";
import { corpusRows, preferenceRows } from "../../tasks/example/generate.ts";
import { initialTensors, MODEL_CONFIG } from "../../tasks/example/model.ts";
import { drawProblem } from "../../tasks/example/problems.ts";
import { Random } from "../../tasks/example/random.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url);

/** A question without wording and order, worked out from its text alone: numbers or letters, and what is asked of them. */
function gist(question: string): string {
  const items = question.match(/\d+|\b[a-z]\b/g) ?? [];
  const ordered = question.startsWith("Read") ? items : items.toSorted();
  return `${question.slice(0, 4)} ${ordered.join(" ")}`;
}

/** The answer that a question asks for, worked out from its text alone. */
function solve(question: string): string {
  const items = question.match(/\d+|\b[a-z]\b/g) ?? [];
  if (question.startsWith("Put")) return items.toSorted().join(" ");
  if (question.startsWith("Read")) return items.toReversed().join(" ");
  const numbers = items.map(Number);
  return String(question.includes("larger") ? Math.max(...numbers) : Math.min(...numbers));
}

const last = (messages: readonly { readonly content: string }[]) => messages.at(-1)!.content;

Deno.test("drawProblem() has right answers that are right and slips that are not", () => {
  const random = new Random("test");
  const kinds = new Set<string>();
  for (let i = 0; i < 2000; i++) {
    const { kind, question, right, slip } = drawProblem(random);
    kinds.add(kind);
    const solution = solve(question);
    for (const text of [...right.terse, right.sentence]) {
      assert.ok(text.includes(` ${solution}.`), `${question} ${text}`);
    }
    for (const text of [...slip.terse, slip.sentence]) {
      assert.ok(!text.includes(solution), `${question} ${text}`);
    }
  }
  assert.deepEqual([...kinds].sort(), ["compare", "reverse", "sort"]);
});

Deno.test("preferenceRows() holds out problems that occur in no training row, however worded", () => {
  const seen = new Set<string>();
  for (const { messages } of corpusRows(42, 48_000)) seen.add(gist(messages.at(-2)!.content));
  for (const { prompt } of preferenceRows(42, "train", 2048)) seen.add(gist(last(prompt)));
  const heldOut = [...preferenceRows(42, "eval", 256)].map(({ prompt }) => gist(last(prompt)));
  assert.deepEqual(heldOut.filter((problem) => seen.has(problem)), []);
  assert.equal(new Set(heldOut).size, 256);
});

Deno.test("preferenceRows() balances length against correctness", () => {
  for (const split of ["train", "eval"] as const) {
    const rows = [...preferenceRows(42, split, 256)].map(({ prompt, chosen, rejected }) => ({
      right: last(chosen).includes(` ${solve(last(prompt))}.`),
      difference: last(chosen).length - last(rejected).length,
    }));
    assert.ok(rows.every(({ right }) => right));
    assert.equal(rows.filter(({ difference }) => difference > 25).length, 64);
    assert.equal(rows.filter(({ difference }) => difference < -25).length, 64);
  }
});

Deno.test("learnMerges() joins the most frequent pair first, whatever the order of the texts", () => {
  const texts = ["abab abab", "ab cd", "cd"];
  assert.deepEqual(learnMerges(texts, 2), [["a", "b"], ["ab", "ab"]]);
  assert.deepEqual(learnMerges(texts, 50), learnMerges(texts.toReversed(), 50));
});

Deno.test("initialTensors() makes 1.26 million parameters, the same for a seed", () => {
  const [first, again, other] = [42, 42, 43].map((seed) => [...initialTensors(MODEL_CONFIG, seed)]);
  const count = first!.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
  assert.equal(count, 1_260_864);
  assert.deepEqual(first, again);
  assert.notDeepEqual(first, other);
});

Deno.test("exampleFiles() are what stands under examples/", async () => {
  for (const [path, text] of Object.entries(exampleFiles())) {
    assert.equal(await Deno.readTextFile(new URL(path, EXAMPLES)), text, `${path}: run deno task example`);
  }
});

Deno.test("the example's tokenizer spells any text, and each word of the corpus as one token", async () => {
  const tokenizer = await loadTokenizer(fileURLToPath(new URL("tiny-llama", EXAMPLES)));
  fc.assert(fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (text) => {
    assert.equal(tokenizer.decode(tokenizer.encode(text)), text);
  }));
  for (const { messages } of corpusRows(42, 500)) {
    for (const { content } of messages) {
      assert.equal(tokenizer.encode(content).length, content.match(/[a-z]+|\d|[.,:?]/gi)!.length, content);
    }
  }
});

Deno.test("the example's chat template puts one token around each turn", async () => {
  const tokenizer = await loadTokenizer(fileURLToPath(new URL("tiny-llama", EXAMPLES)));
  const messages = [{ role: "system", content: "Take care." }, { role: "user", content: "Hello" }];
  assert.equal(
    tokenizer.renderChat(messages, { addGenerationPrompt: true }),
    "<|begin|><|system|>Take care.<|end|><|user|>Hello<|end|><|assistant|>",
  );
});
