import assert from "node:assert/strict";
import { summarizeLeftOut } from "../../src/training/left_out.ts";

Deno.test("summarizeLeftOut() counts a million rows by their reasons, the most frequent first, and names the first 20", () => {
  const reasonOf = (row: number) => row % 3 === 0 ? "empty" : row % 5 === 0 ? "null" : `value ${row}`;
  const rows = Array.from({ length: 1_000_000 }, (_, i) => ({ row: i + 1, reason: reasonOf(i + 1) }));
  const { count, reasons, first } = summarizeLeftOut(rows);
  assert.equal(count, 1_000_000);
  assert.deepEqual(reasons.slice(0, 2), [{ reason: "empty", count: 333_333 }, {
    reason: "null",
    count: 133_334,
  }]);
  assert.equal(reasons.length, 11);
  assert.deepEqual(reasons.at(-1), { reason: "other reasons", count: 1_000_000 - 333_333 - 133_334 - 8 });
  assert.deepEqual(first, rows.slice(0, 20));
  assert.deepEqual(summarizeLeftOut([]), { count: 0, reasons: [], first: [] });
});
