/** Jobs whose rows are tokenised by Workers while the weights are loaded. */
import assert from "node:assert/strict";
import { InputError } from "../../src/errors.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { Lab } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

/** Enough text that Workers are started; most of it is cut off. */
const rows = plainRows(2_000).map((row) => ({ ...row, chosen: row.chosen.repeat(100) }));
const spec = { max_steps: 2, max_length: 24, max_prompt_length: 16 };

Deno.test("train() on many rows reads the weights meanwhile, and learns what it learns of the same rows cut short", async () => {
  const large = await lab.train({ ...spec, dataset: await lab.writeRows("large.jsonl", rows) });
  const kinds = large.events.map(({ type }) => type);
  assert.ok(kinds.indexOf("loading") < kinds.indexOf("plan"), kinds.join());
  assert.equal(kinds.filter((kind) => kind === "plan").length, 1);

  const cut = rows.map((row) => ({ ...row, chosen: row.chosen.slice(0, 120) }));
  const small = await lab.train({ ...spec, rows: cut });
  assert.ok(small.events.findIndex(({ type }) => type === "plan") === 2);
  assert.deepEqual(large.metrics, small.metrics);
});

Deno.test("train() refuses the last of many rows by its number, and goes on with the next job", async () => {
  await lab.writeModel("other");
  const model = lab.path("other");
  const dataset = await lab.writeRows("malformed.jsonl", [...rows, { prompt: "p", chosen: "c" }]);
  await assert.rejects(lab.train({ ...spec, model, dataset, max_left_out: 0 }), (error) => {
    assert.ok(error instanceof InputError);
    assert.match(error.message, /^dataset: .*row 2001 must be/);
    return true;
  });
  assert.equal((await lab.train({ ...spec, model })).outcome, "succeeded");
});

Deno.test("train() on many rows reads no weights for which there is no room, and says what is missing", async () => {
  await using tight = await Lab.open({ memoryLimitBytes: 2 ** 17 });
  const events: string[] = [];
  const onEvent = ({ type }: { type: string }) => void events.push(type);
  await assert.rejects(
    tight.train({ ...spec, rows, onEvent }),
    /^InputError: The job needs .* are to be had/,
  );
  assert.deepEqual(events, ["rows", "warning"]);
});

for (const how of ["cancel", "stop"] as const) {
  Deno.test(`${how} ends a job while Workers make its tokens`, async () => {
    const model = await lab.writeModel(`to-${how}`); // not loaded before, so that there is something to load
    const dataset = await lab.writeRows("long.jsonl", [...rows, ...rows, ...rows]);
    let stopped: Promise<void> | null = null;
    const cancel = new AbortController();
    const { outcome, events } = await lab.train({
      ...spec,
      model,
      dataset,
      directory: lab.path(how),
      signal: cancel.signal,
      onEvent: ({ type }) => {
        if (type !== "loading") return;
        if (how === "cancel") cancel.abort();
        else stopped ??= lab.engine.stop();
      },
    });
    assert.equal(outcome, how === "cancel" ? "cancelled" : "stopped");
    assert.ok(events.every(({ type }) => type === "loading"));
    await stopped;
    await lab.restart();
  });
}
