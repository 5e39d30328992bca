import assert from "node:assert/strict";
import {
  agreementOf,
  formatBeforeAfter,
  type HeldOutPair,
  type PairScores,
} from "../../src/cli/_before_after.ts";

const PAIRS: HeldOutPair[] = [
  { prompt: "2 + 2?", candidates: ["4", "It is 5,\nsurely. " + "Indeed. ".repeat(20)], preferred: 0 },
  { prompt: "3 + 3?", candidates: ["7", "6"], preferred: 1 },
];
const scores = (first: number, second: number): PairScores => [
  { average_logprob: first, num_tokens: 2 },
  { average_logprob: second, num_tokens: 6 },
];
const BEFORE = [scores(-2, -1), scores(-1, -1)];
const AFTER = [scores(-0.5, -3), scores(-4, -0.25)];

Deno.test("agreementOf() counts strict wins of the preferred candidate, whichever its place", () => {
  assert.deepEqual(agreementOf(PAIRS, BEFORE), { accuracy: 0, margin: -0.5, winnerTokens: 4 });
  assert.deepEqual(agreementOf(PAIRS, AFTER), { accuracy: 1, margin: 3.125, winnerTokens: 4 });
});

Deno.test("formatBeforeAfter() marks the preferred and the winning candidates side by side", () => {
  const lines = formatBeforeAfter(PAIRS, BEFORE, AFTER, 1).split("\n");
  assert.ok(lines.every((line) => line.length <= 80), "wider than 80 columns");
  assert.match(lines.find((line) => line.startsWith("  * 4"))!, / -2\.000 +> -0\.500$/);
  assert.match(lines.find((line) => line.includes("It is 5, surely."))!, /^ {4}It.*… +> -1\.000 +-3\.000$/);
  assert.ok(!lines.some((line) => line.includes("3 + 3")), "only one pair is shown");
  assert.match(lines.find((line) => line.includes("accuracy"))!, / 0\.000 +1\.000$/);
  assert.match(lines.find((line) => line.includes("margin:"))!, / -0\.500 +\+3\.125$/);
});
