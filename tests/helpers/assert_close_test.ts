import assert from "node:assert/strict";
import { assertClose, worstDeviation } from "./assert_close.ts";

Deno.test("assertClose() names the worst element, its place and both relative errors", () => {
  const run = () =>
    assertClose([1, 2, 3, 4.5, 5, 6], [1, 2, 3, 4, 5, 8], { rtol: 1e-3, shape: [2, 3], name: "dx" });
  assert.throws(
    run,
    /dx: element 5 \[1, 2\] of 6 is 6 instead of 8: off by 2\.00e\+0, 2\.50e-1 of the tensor's/,
  );
});

Deno.test("assertClose() measures small elements against the tensor's largest unless told otherwise", () => {
  assertClose([1e-7, 1], [2e-7, 1], { rtol: 1e-6 });
  assert.throws(() => assertClose([1e-7, 1], [2e-7, 1], { rtol: 1e-6, relativeTo: "element" }), /element 0/);
  assertClose([1e-7, 1], [2e-7, 1], { rtol: 1e-6, atol: 1e-6, relativeTo: "element" });
});

Deno.test("assertClose() refuses NaN, infinities and other lengths", () => {
  for (const [actual, expected] of [[[NaN], [1]], [[1], [NaN]], [[Infinity], [1]], [[1], [1, 2]]] as const) {
    for (const relativeTo of ["tensor", "element"] as const) {
      assert.throws(() => assertClose(actual, expected, { rtol: 1, atol: 1, relativeTo }));
    }
  }
});

Deno.test("assertClose() refuses anything but zeros where zeros are expected", () => {
  assertClose([0, -0], [0, 0], { rtol: 1e-5 });
  assert.throws(() => assertClose([0, 1e-30], [0, 0], { rtol: 1e-5 }), /element 1/);
});

Deno.test("worstDeviation() finds the element that is furthest off by either measure", () => {
  const [actual, expected] = [[1.1, 101], [1, 100]];
  assert.equal(worstDeviation(actual, expected).index, 1);
  assert.equal(worstDeviation(actual, expected, "element").index, 0);
});
