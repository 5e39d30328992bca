import assert from "node:assert/strict";
import { Progress, tallyOf } from "../../tasks/test.ts";

Deno.test("tallyOf() reads the summary of a run that held", () => {
  assert.deepEqual(
    tallyOf("a ... ok (1ms)\n\nok | 12 passed (3 steps) | 0 failed | 1 ignored (10ms)\n\n", 0),
    { passed: 12, failed: 0, ignored: 1 },
  );
});

Deno.test("tallyOf() reads the summary of a run that failed", () => {
  assert.deepEqual(tallyOf("FAILED | 5 passed | 2 failed (1 step) (1s)\n\nerror: Test failed\n", 1), {
    passed: 5,
    failed: 2,
    ignored: 0,
  });
});

Deno.test("tallyOf() counts a crash and a failure outside the tests as one failure", () => {
  assert.deepEqual(tallyOf("thread 'main' panicked\n", 1), { passed: 0, failed: 1, ignored: 0 });
  assert.deepEqual(tallyOf("ok | 5 passed | 0 failed (1s)\n", 1), { passed: 5, failed: 1, ignored: 0 });
});

Deno.test("Progress tells how many files have begun and how long it took, and names the longest at the end", () => {
  let now = 0;
  const progress = new Progress(3, () => now);
  assert.equal(progress.line("running 2 tests from ./tests/a_test.ts"), "  [file 1 of 3, after 0 s]");
  assert.equal(progress.line("a test ... ok (1s)"), null);
  now = 1_000;
  assert.equal(progress.line("./tests/b_test.ts => some test ... ok (1s)"), "  [file 2 of 3, after 1 s]");
  now = 61_400;
  assert.equal(progress.line("./tests/c_test.ts => other ... ok (1s)"), "  [file 3 of 3, after 1 min 01 s]");
  assert.equal(progress.line("./tests/b_test.ts => another ... ok (1s)"), null);
  now = 70_000;
  assert.match(progress.summary(), /^1 min 10 s; longest were tests\/b_test\.ts 1 min 00 s, /);
});
