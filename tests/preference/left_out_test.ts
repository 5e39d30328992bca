import assert from "node:assert/strict";
import { summarizeLeftOut } from "../../src/preference/left_out.ts";
import { allowedFaults } from "../../src/preference/row_reader.ts";

Deno.test("summarizeLeftOut() counts a hundred thousand rows by their reasons, the most frequent first, and names the first 20", () => {
  const reasonOf = (row: number) => row % 3 === 0 ? "empty" : row % 5 === 0 ? "null" : `value ${row}`;
  const rows = Array.from({ length: 100_000 }, (_, i) => ({ row: i + 1, reason: reasonOf(i + 1) }));
  const { count, reasons, first } = summarizeLeftOut(rows);
  assert.equal(count, 100_000);
  assert.deepEqual(reasons.slice(0, 2), [{ reason: "empty", count: 33_333 }, {
    reason: "null",
    count: 13_334,
  }]);
  assert.equal(reasons.length, 11);
  assert.deepEqual(reasons.at(-1), { reason: "other reasons", count: 100_000 - 33_333 - 13_334 - 8 });
  assert.deepEqual(first, rows.slice(0, 20));
  assert.deepEqual(summarizeLeftOut([]), { count: 0, faults: 0, reasons: [], first: [] });
});

Deno.test("allowedFaults() is the share of the rows, whatever floating point makes of it", () => {
  for (const percent of Array.from({ length: 101 }, (_, i) => i)) {
    assert.equal(allowedFaults(100, percent / 100), percent, `${percent} %`);
    assert.equal(allowedFaults(1000, percent / 100), percent * 10, `${percent} %`);
    assert.equal(
      allowedFaults(99, percent / 100),
      percent === 0 ? 0 : Math.max(1, Math.floor(99 * percent / 100 + 1e-9)),
    );
  }
  assert.deepEqual([allowedFaults(3, 0.1), allowedFaults(1, 1), allowedFaults(5, 0)], [1, 1, 0]);
});
