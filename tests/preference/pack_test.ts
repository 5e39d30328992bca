import assert from "node:assert/strict";
import fc from "fast-check";
import type { EncodedGroup } from "../../src/preference/encode.ts";
import {
  fillWithSizes,
  groupTokens,
  packGroups,
  streamTokens,
  unsharedGroups,
  withoutSharedPrompt,
} from "../../src/preference/pack.ts";

function group(prompt: number[], ...responses: { tokens: number[]; scored_from?: number }[]): EncodedGroup {
  return {
    row: 1,
    prompt: Uint32Array.from(prompt),
    responses: responses.map(({ tokens, scored_from = 0 }) => ({
      tokens: Uint32Array.from(tokens),
      scored_from,
      truncated: false,
    })),
    prompt_truncated: 0,
  };
}

const arbitraryGroup: fc.Arbitrary<EncodedGroup> = fc.array(fc.nat(99), { maxLength: 6 }).chain((prompt) =>
  fc.array(
    fc.array(fc.nat(99), { minLength: prompt.length === 0 ? 2 : 1, maxLength: 6 }).chain((tokens) =>
      fc.record({
        tokens: fc.constant(tokens),
        scored_from: fc.integer({ min: prompt.length === 0 ? 1 : 0, max: tokens.length - 1 }),
      })
    ),
    { minLength: 1, maxLength: 4 },
  ).map((responses) => group(prompt, ...responses))
);
const arbitraryGroups = fc.array(arbitraryGroup, { maxLength: 5 });

/**
 * Which tokens every token attends to, from first principles: same group, not later, of the prompt or the same response.
 * The last tokens of responses are left out.
 */
function visible(groups: readonly EncodedGroup[]): boolean[][] {
  const owners = groups.flatMap(({ prompt, responses }, index) => [
    ...Array.from(prompt, () => ({ group: index, response: -1 })),
    ...responses.flatMap(({ tokens }, response) =>
      Array.from(tokens.slice(0, -1), () => ({ group: index, response }))
    ),
  ]);
  return owners.map((query, i) =>
    owners.map((key, j) =>
      j <= i && key.group === query.group && (key.response === -1 || key.response === query.response)
    )
  );
}

Deno.test("packGroups() leaves out known tokens, and tells places of the stream that has them", () => {
  const groupsWithKnown = arbitraryGroups.chain((groups) =>
    fc.tuple(
      fc.constant(groups),
      fc.tuple(...groups.map(({ prompt }) => fc.nat(Math.max(0, prompt.length - 1)))),
    )
  );
  fc.assert(fc.property(groupsWithKnown, ([groups, known]) => {
    const whole = packGroups(groups);
    const batch = packGroups(groups, known);
    let end = 0;
    const kept = groups.flatMap((group, i) => {
      const start = end;
      end += streamTokens(group);
      return Array.from({ length: end - start }, (_, token) => start + token).slice(known[i]);
    });
    const rows = (all: Uint32Array, columns = 1) =>
      kept.flatMap((token) => [...all.subarray(token * columns, (token + 1) * columns)]);
    assert.equal(batch.tokens, kept.length);
    assert.deepEqual([...batch.places], kept);
    assert.deepEqual([...batch.spans], rows(whole.spans, 4));
    assert.deepEqual([...batch.positions], rows(whole.positions));
    assert.deepEqual([...batch.lengths], rows(whole.lengths));
    assert.deepEqual([...batch.token_ids], rows(whole.token_ids));
    assert.deepEqual([...batch.head_tokens].map((token) => kept[token]), [...whole.head_tokens]);
    assert.deepEqual([batch.targets, batch.sequence_info], [whole.targets, whole.sequence_info]);
  }));
});

Deno.test("packGroups() puts the prompt once before its responses", () => {
  const batch = packGroups([
    group([1, 5], { tokens: [7, 2] }, { tokens: [6, 9, 2], scored_from: 1 }),
    group([], { tokens: [4, 2], scored_from: 1 }),
  ]);
  assert.deepEqual([batch.tokens, batch.rows, batch.sequences], [6, 5, 3]);
  assert.deepEqual([...batch.token_ids], [1, 5, 7, 6, 9, 4]);
  assert.deepEqual([...batch.positions], [0, 1, 2, 2, 3, 0]);
  assert.deepEqual([...batch.lengths], [5, 5, 4, 5, 5, 2]);
  assert.deepEqual([...batch.spans], [
    ...[0, 0, 0, 5],
    ...[0, 0, 0, 5],
    ...[0, 2, 2, 3],
    ...[0, 2, 3, 5],
    ...[0, 2, 3, 5],
    ...[5, 5, 5, 6],
  ]);
  assert.deepEqual([...batch.head_tokens], [1, 2, 3, 4, 5]);
  assert.deepEqual([...batch.targets], [7, 2, 9, 2, 2]);
  assert.deepEqual([...batch.sequence_rows], [0, 2, 4, 5]);
  assert.deepEqual([...batch.token_rows], [0, 0, 1, 2, 3, 4, 5]);
  assert.deepEqual([...batch.token_row_list], [0, 1, 2, 3, 4]);
  assert.deepEqual(batch.sequence_info, [
    { group: 0, response: 0, num_tokens: 2 },
    { group: 0, response: 1, num_tokens: 2 },
    { group: 1, response: 0, num_tokens: 1 },
  ]);
});

Deno.test("packGroups() lets the prompt's last token predict the first token of every response", () => {
  const batch = packGroups([group([1], { tokens: [7] }, { tokens: [8] }, { tokens: [9] })]);
  assert.deepEqual([...batch.head_tokens], [0, 0, 0]);
  assert.deepEqual([...batch.targets], [7, 8, 9]);
  assert.deepEqual([...batch.token_ids], [1]);
  assert.deepEqual([...batch.token_rows], [0, 3]);
  assert.deepEqual([...batch.token_row_list], [0, 1, 2]);
});

Deno.test("packGroups() scores the prompt's tokens but the first where that is asked for", () => {
  const groups = [
    group([1, 2, 3], { tokens: [7, 8] }, { tokens: [4, 9], scored_from: 1 }),
    group([5], { tokens: [6] }),
  ];
  const plain = packGroups(groups);
  const batch = packGroups(groups, [], true);
  for (const name of ["token_ids", "positions", "spans", "places"] as const) {
    assert.deepEqual(batch[name], plain[name], name);
  }
  assert.deepEqual([...batch.head_tokens], [0, 1, 2, 3, 4, 5]);
  assert.deepEqual([...batch.targets], [2, 3, 7, 8, 9, 6]);
  assert.deepEqual([...batch.sequence_rows], [0, 2, 4, 5, 5, 6]);
  assert.deepEqual(batch.sequence_info.map(({ group, response }) => [group, response]), [
    [0, null],
    [0, 0],
    [0, 1],
    [1, null],
    [1, 0],
  ]);
});

Deno.test("packGroups() of nothing is empty", () => {
  const batch = packGroups([]);
  assert.deepEqual([batch.tokens, batch.rows, batch.sequences], [0, 0, 0]);
  assert.deepEqual([[...batch.sequence_rows], [...batch.token_rows]], [[0], [0]]);
});

Deno.test("packGroups() refuses to score a token that nothing precedes", () => {
  assert.throws(() => packGroups([group([], { tokens: [4, 2] })]), RangeError);
});

Deno.test("packGroups() lets a token see its group's prompt and its own response, up to itself, and no more", () => {
  fc.assert(
    fc.property(arbitraryGroups, (groups) => {
      const { tokens, spans } = packGroups(groups);
      const expected = visible(groups);
      assert.equal(tokens, expected.length);
      for (let i = 0; i < tokens; i++) {
        const [prefixStart, prefixEnd, segmentStart] = spans.subarray(
          i * 4,
          i * 4 + 4,
        ) as unknown as number[];
        for (let j = 0; j < tokens; j++) {
          const seen = (j >= prefixStart! && j < prefixEnd!) || (j >= segmentStart! && j <= i);
          assert.equal(seen, expected[i]![j], `${i} sees ${j}`);
          const queriesEnd = spans[j * 4 + 3]!;
          if (seen) assert(i >= j && i < queriesEnd, `${i} is within the queries of ${j}`);
        }
        // Tight: the last query of every key does see it.
        assert(expected[spans[i * 4 + 3]! - 1]![i]);
      }
    }),
    { seed: 3, numRuns: 100 },
  );
});

Deno.test("packGroups() scores every response's tokens from scored_from on, in order, each by the one before it", () => {
  fc.assert(
    fc.property(arbitraryGroups, (groups) => {
      const batch = packGroups(groups);
      const all = groups.flatMap(({ prompt, responses }) =>
        responses.map((response) => ({ prompt, response }))
      );
      assert.equal(batch.sequences, all.length);
      assert.equal(batch.rows, batch.sequence_rows.at(-1));
      all.forEach(({ prompt, response }, sequence) => {
        const [from, to] = [batch.sequence_rows[sequence]!, batch.sequence_rows[sequence + 1]!];
        const info = batch.sequence_info[sequence]!;
        assert.equal(groups[info.group]!.responses[info.response!], response);
        assert.equal(info.num_tokens, to - from);
        assert.deepEqual(batch.targets.slice(from, to), response.tokens.slice(response.scored_from));
        const whole = [...prompt, ...response.tokens];
        const first = prompt.length + response.scored_from;
        batch.head_tokens.slice(from, to).forEach((token, index) => {
          assert.equal(batch.positions[token], first + index - 1);
          assert.equal(batch.token_ids[token], whole[first + index - 1]);
        });
      });
    }),
    { seed: 4, numRuns: 100 },
  );
});

Deno.test("packGroups() lists under every token the rows it predicts: the inverse of head_tokens", () => {
  fc.assert(
    fc.property(arbitraryGroups, (groups) => {
      const { tokens, rows, token_rows, token_row_list, head_tokens } = packGroups(groups);
      assert.equal(token_rows[0], 0);
      assert.equal(token_rows[tokens], rows);
      const seen = new Set<number>();
      for (let token = 0; token < tokens; token++) {
        for (const row of token_row_list.subarray(token_rows[token]!, token_rows[token + 1]!)) {
          assert.equal(head_tokens[row], token);
          seen.add(row);
        }
      }
      assert.equal(seen.size, rows);
    }),
    { seed: 5, numRuns: 100 },
  );
});

Deno.test("packGroups() gives a response that predicts what follows it one more row, at its last token", () => {
  const response = { tokens: Uint32Array.of(4, 5, 6), scored_from: 1, truncated: false };
  const groupOf = (predicts_next: boolean) => ({
    row: 1,
    prompt: new Uint32Array(),
    responses: [{ ...response, predicts_next }],
    prompt_truncated: 0,
  });
  const batch = packGroups([groupOf(true), groupOf(false)]);
  assert.deepEqual([...batch.head_tokens], [0, 1, 2, 3, 4]);
  assert.deepEqual([...batch.targets], [5, 6, 0, 5, 6]);
  assert.deepEqual([...batch.sequence_rows], [0, 3, 5]);
  assert.deepEqual([...batch.token_ids], [4, 5, 6, 4, 5]);
  assert.deepEqual([...batch.token_rows], [0, 1, 2, 3, 4, 5]);
});

/** Groups of these many tokens. */
function groupsOf(...sizes: number[]): EncodedGroup[] {
  return sizes.map((size) => group(new Array(size - 1).fill(1), { tokens: [2] }));
}

function fillBatches(groups: readonly EncodedGroup[], budget: number): EncodedGroup[][] {
  return fillWithSizes(groups.map(groupTokens), budget).map((batch) => batch.map((index) => groups[index]!));
}

const sizesOf = (batches: EncodedGroup[][]) => batches.map((batch) => batch.map(groupTokens));

Deno.test("fillWithSizes() puts the largest groups first, each where the least room is left", () => {
  assert.deepEqual(sizesOf(fillBatches(groupsOf(6, 7, 3, 4), 10)), [[6, 4], [7, 3]]);
  // the 3 goes beside 7, where it leaves nothing, though there is room beside 6 too
  assert.deepEqual(sizesOf(fillBatches(groupsOf(6, 7, 2, 3, 2), 10)), [[6, 2, 2], [7, 3]]);
});

Deno.test("fillWithSizes() keeps the order of the groups where that takes fewer batches", () => {
  const groups = groupsOf(4, 3, 3, 4, 3, 3);
  assert.deepEqual(fillBatches(groups, 10), [groups.slice(0, 3), groups.slice(3)]);
});

Deno.test("fillWithSizes() takes every group once, no batch over the budget, and no more batches than in order", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 2, max: 40 }), { maxLength: 40 }), (sizes) => {
      const groups = groupsOf(...sizes);
      const budget = 40;
      const batches = fillBatches(groups, budget);
      assert.deepEqual(new Set(batches.flat()), new Set(groups));
      assert.equal(batches.flat().length, groups.length);
      assert.deepEqual(fillBatches(groups, budget), batches);
      for (const batch of batches) {
        const size = batch.reduce((sum, one) => sum + groupTokens(one), 0);
        const packed = packGroups(batch);
        assert(size <= budget && packed.tokens <= size && packed.rows <= size);
      }
      const places = batches.map((batch) => batch.map((one) => groups.indexOf(one)));
      for (const [i, batch] of places.entries()) {
        assert.deepEqual(batch, batch.toSorted((a, b) => a - b));
        if (i > 0) assert(places[i - 1]![0]! < batch[0]!);
      }
      let [inOrder, room] = [0, 0];
      for (const size of sizes) {
        if (size > room) [inOrder, room] = [inOrder + 1, budget];
        room -= size;
      }
      assert(batches.length <= inOrder);
    }),
    { seed: 8, numRuns: 200 },
  );
});

Deno.test("unsharedGroups() gives each response its own prompt and the same rows to score", () => {
  fc.assert(
    fc.property(arbitraryGroup, (one) => {
      const alone = unsharedGroups(one);
      assert.equal(alone.length, one.responses.length);
      const together = packGroups([one]);
      const apart = packGroups(alone);
      assert.deepEqual(apart.targets, together.targets);
      assert.deepEqual(apart.sequence_rows, together.sequence_rows);
      assert.equal(apart.tokens, together.tokens + one.prompt.length * (alone.length - 1));
      const position = (batch: typeof apart) =>
        Array.from(batch.head_tokens, (token) => batch.positions[token]);
      assert.deepEqual(position(apart), position(together));
    }),
    { seed: 7, numRuns: 100 },
  );
});

Deno.test("withoutSharedPrompt() gives one group's responses their own prompt and the same rows to score", () => {
  fc.assert(
    fc.property(arbitraryGroup, (one) => {
      const apart = packGroups([withoutSharedPrompt(one)]);
      const alone = packGroups(unsharedGroups(one));
      assert.deepEqual(apart.targets, alone.targets);
      assert.deepEqual(apart.token_ids, alone.token_ids);
      assert.deepEqual(apart.positions, alone.positions);
      assert.deepEqual(apart.head_tokens, alone.head_tokens);
      assert.deepEqual(apart.sequence_info.map(({ group }) => group), one.responses.map(() => 0));
    }),
    { seed: 9, numRuns: 100 },
  );
});
