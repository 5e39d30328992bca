/** POST /train?dry_run=true, and rows of any depth. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { testService } from "../helpers/service.ts";
import { chatRows, plainRows } from "../helpers/tiny_model.ts";

async function dryRun(
  fields: Readonly<Record<string, unknown>>,
  files: Readonly<Record<string, unknown[]>> = {},
) {
  await using service = await testService();
  for (const [name, rows] of Object.entries(files)) {
    await Deno.writeTextFile(join(service.root, name), rows.map((row) => JSON.stringify(row)).join("\n"));
  }
  const answer = await service.post("/train?dry_run=true", { model: "model", max_length: 96, ...fields });
  assert.deepEqual((await service.get("/train")).body.jobs, []);
  return answer;
}

Deno.test("POST /train?dry_run=true tells what rows become, and makes no job", async () => {
  const rows = [
    ...chatRows(8),
    { id: "7", question: "the tin", chosen: "out", rejected: "out" },
    { prompt: "a", chosen: "b" },
  ];
  const { status, body } = await dryRun({
    dataset: { path: "rows.jsonl" },
    eval_dataset: { rows: plainRows(3) },
  }, {
    "rows.jsonl": rows,
  });
  assert.equal(status, 200, JSON.stringify(body));
  const { train } = body;
  assert.deepEqual([body.max_length, train.rows, train.examples, body.eval.examples], [96, 10, 9, 3]);
  assert.deepEqual(train.shapes, [
    { shape: "{prompt, chosen, rejected}", rows: 8 },
    { shape: "{question, chosen, rejected}", rows: 1 },
  ]);
  assert.deepEqual([train.left_out.count, train.left_out.first[0].row], [1, 10]);
  assert.deepEqual(train.warnings, [
    "a column holds text that is not used: id.",
    "in 1 of 10 rows chosen and rejected are the same.",
  ]);
  assert.ok(
    train.whole_length.p50 <= train.whole_length.p99 && train.whole_length.max > train.prompt_length.max,
  );
  const [first] = train.first;
  assert.equal(train.first.length, 3);
  assert.match(first.prompt, /^<\|begin\|><\|user\|>.*<\|assistant\|>$/);
  for (const { unscored, scored, scored_tokens } of first.responses) {
    assert.match(unscored + scored, /<\|end\|>$/);
    assert.ok(scored_tokens > 1);
  }
});

Deno.test("POST /train?dry_run=true says what is cut and what would keep it, and cuts what it shows", async () => {
  const long = { prompt: "x", chosen: "y".repeat(9000), rejected: "z" };
  const { body } = await dryRun({ dataset: { rows: [long, ...plainRows(2)] }, max_length: 60 });
  assert.equal(body.train.responses_cut, 1);
  assert.match(
    body.train.warnings[0],
    /The longest row takes \d+ tokens, more than the model's context of 128\.$/,
  );
  const huge = { prompt: "x", completion: "y".repeat(100) };
  const cut = await dryRun({ dataset: { rows: [huge, huge] }, method: { type: "sft" }, max_length: 60 });
  assert.deepEqual([cut.status, cut.body.train.first[0].responses.length], [200, 1]);
});

Deno.test("POST /train?dry_run=true refuses what the job would fail by, at its place", async () => {
  const bad = Array.from({ length: 4 }, () => ({ frage: "q", chosen: "a", rejected: "b" }));
  const sources = [{ path: "good.jsonl" }, { path: "bad.jsonl" }];
  const { status, body } = await dryRun({ dataset: sources }, {
    "good.jsonl": plainRows(3),
    "bad.jsonl": bad,
  });
  assert.deepEqual([status, body.field], [422, "dataset[1]: bad.jsonl: row 1"]);
  assert.match(body.detail, /no column known as the prompt, but others with text: frage/);
  const mapped = await dryRun({
    dataset: [{ path: "good.jsonl" }, {
      path: "bad.jsonl",
      columns: { prompt: "frage" },
      limit: 2,
      weight: 0.5,
    }],
  }, { "good.jsonl": plainRows(3), "bad.jsonl": bad });
  assert.deepEqual([mapped.status, mapped.body.train.examples], [200, 5]);
  const unknown = await dryRun({ dataset: { path: "good.jsonl", columns: { promt: "frage" } } });
  assert.deepEqual([unknown.status, unknown.body.field], [422, "dataset.columns.promt"]);
});

Deno.test("POST /train?dry_run=true counts what is held out and what stands in train and eval, and weighs a mixture", async () => {
  const held = await dryRun({ dataset: { rows: plainRows(5) }, eval_fraction: 0.4 });
  assert.deepEqual([held.body.epoch_examples, held.body.eval_examples, held.body.warnings], [3, 2, []]);
  const one = await dryRun({ dataset: { rows: plainRows(1) }, eval_fraction: 0.4 });
  assert.deepEqual([one.status, one.body.field], [422, "eval_fraction"]);
  const shared = await dryRun({ dataset: { rows: plainRows(5) }, eval_dataset: { rows: plainRows(2) } });
  assert.deepEqual(shared.body.warnings, [
    "2 of the 2 rows of the evaluation stand among those of the training too.",
  ]);
  const mixed = await dryRun({
    dataset: [{ rows: plainRows(4), weight: 2.5 }, { rows: chatRows(3), weight: 0.1 }],
  });
  assert.equal(mixed.body.epoch_examples, 10);
  assert.deepEqual(mixed.body.warnings, [
    "none of the 3 rows of dataset[1] is trained on: its weight 0.1 makes no row of them.",
  ]);
  const none = await dryRun({ dataset: { rows: plainRows(4), weight: 0.1 } });
  assert.deepEqual([none.status, none.body.field], [422, "dataset"]);
  const inherited = await dryRun({ dataset: { rows: plainRows(4), columns: { prompt: "constructor" } } });
  assert.match(inherited.body.detail, /prompt must be a string or a list of messages, not missing/);
});

Deno.test("POST /train leaves a deep row out by its number, and refuses a body that is deeper than its bound", async () => {
  await using service = await testService();
  const nested = (levels: number) => '{"a":'.repeat(levels) + "1" + "}".repeat(levels);
  const rows = plainRows(3).map((row) => JSON.stringify(row));
  const refused = await service.post("/train", `{"model":"model","dataset":{"rows":[${nested(20_000)}]}}`);
  assert.deepEqual([refused.status, refused.body.detail], [422, "body is nested more than 128 deep."]);
  for (const key of [undefined, "k"]) {
    const response = await service.app.request("/train", {
      method: "POST",
      headers: { "content-type": "application/json", ...key !== undefined && { "idempotency-key": key } },
      body: `{"model":"model","dataset":{"rows":[${rows},{"prompt":"p","chosen":"a","rejected":${
        nested(110)
      }}]}}`,
    });
    assert.equal(response.status, 202, await response.clone().text());
    const { id } = await response.json();
    await service.until(id, "succeeded");
  }
});
