import assert from "node:assert/strict";
import fc from "fast-check";
import { BLOCK_TOKENS, PromptIndex } from "../../src/scoring/prompt_index.ts";

/** A prompt of blocks, each of one token repeated, and some tokens more. */
function prompt(blocks: readonly number[], more = 1): Uint32Array {
  return Uint32Array.from([
    ...blocks.flatMap((id) => new Array(BLOCK_TOKENS).fill(id)),
    ...new Array(more).fill(0),
  ]);
}

/** Puts prompts into batches of their own, and begins another. @returns known tokens of each */
function batches(index: PromptIndex, ...prompts: Uint32Array[]): number[] {
  index.begin();
  return prompts.map((one) => {
    const known = index.known(one);
    index.add(one, 0);
    index.begin();
    return known;
  });
}

Deno.test("PromptIndex keeps a prompt at its second sight, and knows it from the third on", () => {
  const index = new PromptIndex(8);
  const one = prompt([1, 2]);
  index.begin();
  assert.deepEqual(index.add(one, 5), { known: [], kept: [] });
  index.begin();
  assert.deepEqual(index.add(one, 5), {
    known: [],
    kept: [{ token: 5, slot: 0 }, { token: 5 + BLOCK_TOKENS, slot: 1 }],
  });
  index.begin();
  assert.equal(index.known(one), 2 * BLOCK_TOKENS);
  assert.deepEqual(index.add(one, 5), { known: [{ slot: 0 }, { slot: 1 }], kept: [] });
});

Deno.test("PromptIndex leaves the last token to be computed, and what fills no block", () => {
  const index = new PromptIndex(8);
  assert.deepEqual(batches(index, prompt([1, 2], 0), prompt([1, 2], 0), prompt([1, 2], 0)), [
    0,
    0,
    BLOCK_TOKENS,
  ]);
  assert.equal(index.known(prompt([1, 2], 1)), 2 * BLOCK_TOKENS);
  assert.equal(index.known(prompt([1], 5)), BLOCK_TOKENS);
  assert.equal(index.known(prompt([1], 0)), 0);
  assert.equal(index.known(prompt([], 5)), 0);
});

Deno.test("PromptIndex knows the beginning that prompts share, and what comes behind it only behind it", () => {
  const index = new PromptIndex(8);
  const seen = batches(index, prompt([1, 2, 3]), prompt([1, 2, 4]), prompt([1, 2, 5]), prompt([2, 3]));
  assert.deepEqual(seen, [0, 0, 2 * BLOCK_TOKENS, 0]);
  assert.equal(index.known(prompt([1, 2, 3])), 2 * BLOCK_TOKENS);
  assert.equal(index.known(prompt([2])), 0);
});

Deno.test("PromptIndex knows what another prompt of the batch computes, and keeps it", () => {
  const index = new PromptIndex(8);
  index.begin();
  index.add(prompt([1, 2]), 0);
  const second = prompt([1, 3]);
  assert.equal(index.known(second), BLOCK_TOKENS);
  assert.deepEqual(index.add(second, 40), { known: [{ token: 0 }], kept: [{ token: 0, slot: 0 }] });
  assert.deepEqual(index.add(second, 60), {
    known: [{ token: 0 }, { token: 40 }],
    kept: [{ token: 40, slot: 1 }],
  });
});

Deno.test("PromptIndex lets the least recently used go, never what the batch uses", () => {
  const index = new PromptIndex(3);
  const [a, b, c] = [prompt([1, 2]), prompt([3]), prompt([4])];
  batches(index, a, a, b, b, a, c, c);
  assert.deepEqual(
    [a, b, c].map((one) => index.known(one)),
    [2, 0, 1].map((blocks) => blocks * BLOCK_TOKENS),
  );
  batches(index, b, b);
  assert.deepEqual(
    [a, b, c].map((one) => index.known(one)),
    [1, 1, 1].map((blocks) => blocks * BLOCK_TOKENS),
  );
  const long = prompt([5, 6, 7, 8]);
  batches(index, long, long);
  assert.equal(index.known(long), 3 * BLOCK_TOKENS);
});

Deno.test("PromptIndex keeps what follows the oldest block that it has, in the place of others", () => {
  const index = new PromptIndex(2);
  const [a, longer, b] = [prompt([1]), prompt([1, 2]), prompt([3])];
  batches(index, longer, a, b, b, longer);
  assert.deepEqual([longer, b].map((one) => index.known(one)), [2, 0].map((blocks) => blocks * BLOCK_TOKENS));
});

Deno.test("PromptIndex gives every slot to one block, and knows only what is in it", () => {
  const arbitraryPrompt = fc.tuple(fc.array(fc.nat(2), { maxLength: 5 }), fc.nat(3));
  const arbitraryBatches = fc.array(fc.array(arbitraryPrompt, { minLength: 1, maxLength: 4 }), {
    maxLength: 40,
  });
  fc.assert(
    fc.property(arbitraryBatches, fc.integer({ min: 0, max: 6 }), (all, slots) => {
      const index = new PromptIndex(slots);
      /** What each slot holds: the blocks up to its own. */
      const held = new Map<number, string>();
      for (const batch of all) {
        index.begin();
        const computed = new Map<number, string>();
        const written = new Map<number, string>();
        let token = 0;
        for (const [blocks, more] of batch) {
          const one = prompt(blocks, more);
          const path = (count: number) => blocks.slice(0, count).join();
          const known = index.known(one);
          assert.ok(known === 0 || known < one.length);
          for (let at = known; at < one.length; at++) {
            computed.set(token + at - known, path(1 + at / BLOCK_TOKENS));
          }
          const plan = index.add(one, token);
          token += one.length - known;
          assert.equal(plan.known.length * BLOCK_TOKENS, known);
          plan.known.forEach((source, i) => {
            const content = "slot" in source ? held.get(source.slot) : computed.get(source.token);
            assert.equal(content, path(i + 1));
          });
          for (const { token, slot } of plan.kept) {
            assert.ok(slot >= 0 && slot < slots && !written.has(slot), "a slot is written once a batch");
            written.set(slot, computed.get(token)!);
          }
        }
        for (const [slot, content] of written) {
          held.set(slot, content);
        }
      }
    }),
    { numRuns: 300 },
  );
});
