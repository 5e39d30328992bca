import assert from "node:assert/strict";
import fc from "fast-check";
import { mix32, Random } from "../../src/training/random.ts";

Deno.test("Random gives one sequence a seed, and another to seeds that are near", () => {
  const draw = (...parts: number[]) => {
    const random = new Random(...parts);
    return Array.from({ length: 8 }, () => random.next());
  };
  assert.deepEqual(draw(42, 1), draw(42, 1));
  const sequences = [[42, 1], [42, 2], [43, 1], [1, 42], [42], [2 ** 32 - 1, 0], [0, 0]].map((parts) =>
    draw(...parts).join()
  );
  assert.equal(new Set(sequences).size, sequences.length);
});

Deno.test("Random.next() is uniform in [0, 1)", () => {
  const random = new Random(3);
  const count = 100_000;
  const tenths = new Array(10).fill(0);
  for (let i = 0; i < count; i++) {
    const value = random.next();
    assert.ok(value >= 0 && value < 1);
    tenths[Math.floor(value * 10)]++;
  }
  const deviation = Math.sqrt(count * 0.1 * 0.9);
  for (const tenth of tenths) assert.ok(Math.abs(tenth - count / 10) < 4.5 * deviation, `${tenths}`);
});

Deno.test("Random.permutation() holds every number once and prefers no place", () => {
  fc.assert(fc.property(fc.integer({ min: 0, max: 50 }), fc.integer(), (count, seed) => {
    const sorted = [...new Random(seed).permutation(count)].sort((a, b) => a - b);
    assert.deepEqual(sorted, Array.from({ length: count }, (_, i) => i));
  }));
  const firsts = new Array(5).fill(0);
  for (let seed = 0; seed < 5000; seed++) firsts[new Random(seed).permutation(5)[0]!]++;
  for (const first of firsts) assert.ok(Math.abs(first - 1000) < 4.5 * Math.sqrt(800), `${firsts}`);
});

Deno.test("mix32() gives unsigned 32 bits that change with every part", () => {
  fc.assert(fc.property(fc.integer(), fc.nat(), fc.nat(), (seed, step, micro) => {
    const hash = mix32(seed, step, micro);
    assert.ok(Number.isInteger(hash) && hash >= 0 && hash < 2 ** 32);
    assert.notEqual(mix32(seed, step + 1, micro), hash);
    assert.notEqual(mix32(seed, step, micro + 1), hash);
  }));
});
