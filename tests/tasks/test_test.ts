import assert from "node:assert/strict";
import { tallyOf } from "../../tasks/test.ts";

Deno.test("tallyOf() reads the summary of a run that held", () => {
  assert.deepEqual(
    tallyOf("a ... ok (1ms)\n\nok | 12 passed (3 steps) | 0 failed | 1 ignored (10ms)\n\n", 0),
    {
      passed: 12,
      failed: 0,
    },
  );
});

Deno.test("tallyOf() reads the summary of a run that failed", () => {
  assert.deepEqual(tallyOf("FAILED | 5 passed | 2 failed (1 step) (1s)\n\nerror: Test failed\n", 1), {
    passed: 5,
    failed: 2,
  });
});

Deno.test("tallyOf() counts a crash and a failure outside the tests as one failure", () => {
  assert.deepEqual(tallyOf("thread 'main' panicked\n", 1), { passed: 0, failed: 1 });
  assert.deepEqual(tallyOf("ok | 5 passed | 0 failed (1s)\n", 1), { passed: 5, failed: 1 });
});
