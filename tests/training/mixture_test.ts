import assert from "node:assert/strict";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import { countShared, fingerprint, holdOut, weighted } from "../../src/training/mixture.ts";

function group(prompt: number[], ...responses: number[][]): EncodedGroup {
  return {
    row: 1,
    prompt: Uint32Array.from(prompt),
    responses: responses.map((tokens) => ({
      tokens: Uint32Array.from(tokens),
      scored_from: 0,
      truncated: false,
    })),
    prompt_truncated: 0,
  };
}

const prints = Array.from({ length: 100 }, (_, i) => fingerprint(group([i >> 1], [i], [i + 1])));

Deno.test("holdOut() takes whole prompts until the share is reached, by the seed", () => {
  const held = holdOut(prints, 0.1, 1);
  assert.equal(held.size, 10);
  for (const number of held) {
    assert.ok(held.has(number ^ 1), `${number} is held out without its prompt's other row`);
  }
  assert.deepEqual(holdOut(prints, 0.1, 1), held);
  assert.notDeepEqual(holdOut(prints, 0.1, 2), held);
  assert.equal(holdOut(prints, 0.001, 1).size, 2);
});

Deno.test("holdOut() leaves a prompt to train on, and refuses rows of one prompt", () => {
  const [a, b] = [fingerprint(group([1], [2])), fingerprint(group([3], [2]))];
  assert.equal(holdOut([a, b, b], 0.5, 1).size < 3, true);
  assert.throws(() => holdOut([a, a], 0.5, 1), {
    name: "InputError",
    message: /^eval_fraction 0\.5 cannot be held out/,
  });
});

Deno.test("weighted() repeats rows and takes a part of them, the same for the same seed", () => {
  const of = (weight: number, seed = 1) => [...weighted([{ first: 0, end: 10, weight }], seed)];
  const all = Array.from({ length: 10 }, (_, i) => i);
  assert.deepEqual(of(1), all);
  assert.deepEqual(of(2), [...all, ...all]);
  const half = of(0.5);
  assert.equal(new Set(half).size, 5);
  assert.deepEqual(of(0.5), half);
  assert.notDeepEqual(of(0.5, 3), half);
  assert.deepEqual(of(1.5).slice(0, 10), all);
  assert.equal(of(1.5).length, 15);
  const two = weighted([{ first: 0, end: 2, weight: 1 }, {
    first: 2,
    end: 4,
    weight: 2,
    without: new Set([3]),
  }], 1);
  assert.deepEqual([...two], [0, 1, 2, 2]);
});

Deno.test("countShared() counts the rows of the evaluation that are trained on, token for token", () => {
  const [a, b, c] = [group([1], [2], [3]), group([1], [2], [4]), group([1, 2], [3])].map(fingerprint);
  assert.equal(countShared([a!, b!, a!, c!], Uint32Array.of(0, 1), Uint32Array.of(2, 3)), 1);
  assert.equal(new Set([a, b, c].map((print) => print!.row)).size, 3);
});
