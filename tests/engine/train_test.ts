/** What a job says while it trains, and how it ends. */
import assert from "node:assert/strict";
import { leftOut } from "../helpers/fake_engine.ts";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { stream } from "../../src/engine/protocol.ts";
import { learningRate, planSchedule } from "../../src/training/schedule.ts";
import { settingsOf } from "../helpers/settings.ts";
import { chatRows, plainRows } from "../helpers/tiny_model.ts";
import { filesOf, itemOf, Lab, type Trained } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const row = plainRows(1)[0]!;
const metricOf = ({ metrics }: Trained, name: string) => metrics.map(({ metrics }) => metrics[name]);

for (const lr_scheduler_type of ["cosine", "linear", "constant_with_warmup", "constant"] as const) {
  Deno.test(`train() follows the schedule ${lr_scheduler_type}`, async () => {
    const spec = { lr_scheduler_type, warmup_ratio: 0.4, max_steps: 5 };
    const run = await lab.train(spec);
    const settings = settingsOf(spec);
    const schedule = planSchedule(settings, 8);
    const expected = run.metrics.map((_, step) => learningRate(settings, schedule, step));
    assert.deepEqual(metricOf(run, "learning_rate"), expected);
    // the first update of a warm-up has rate 0: the second step sees what the first saw
    const rows = [row];
    const loss = metricOf(await lab.train({ ...spec, rows, batch_size: 1 }), "loss");
    assert.equal(loss[1] === loss[0], lr_scheduler_type !== "constant");
    assert.ok(loss[4]! < loss[1]!);
  });
}

Deno.test("train() tells total steps, progress, metrics and checkpoints in their order", async () => {
  const { events, outcome, step } = await lab.train({ num_train_epochs: 2.5, save_steps: 2 });
  assert.deepEqual([outcome, step], ["succeeded", 5]);
  const kinds = events.map((event) => `${event.type} ${"step" in event ? event.step : ""}`.trim());
  const step_ = (
    n: number,
    saved: boolean,
  ) => [`metrics ${n}`, ...saved ? [`checkpoint ${n}`] : [], `progress ${n}`];
  assert.deepEqual(kinds, [
    "rows",
    "plan",
    "status",
    ...[1, 2, 3, 4, 5].flatMap((n) => step_(n, n % 2 === 0 || n === 5)),
  ]);
  const shapes = [{ shape: "{prompt, chosen, rejected}", rows: 8 }];
  assert.deepEqual(events[0], { type: "rows", split: "train", rows: 8, shapes });
  assert.deepEqual(events[2], { type: "status", status: "running", total_steps: 5, resumed_from: 0 });
  const last = events.at(-1)!;
  assert.ok(last.type === "progress" && last.seconds_remaining === 0 && last.tokens_per_second > 0);
});

Deno.test("train() counts epochs and tokens", async () => {
  const run = await lab.train({ rows: plainRows(6), num_train_epochs: 2 });
  assert.deepEqual(metricOf(run, "epoch"), [0.5, 1, 1.5, 2]);
  const tokens = metricOf(run, "num_tokens") as number[];
  assert.equal(tokens[3], 2 * tokens[1]!);
  const filled = metricOf(run, "fill_rate") as number[];
  assert.deepEqual(filled.slice(0, 2), [tokens[0]! / 2048, (tokens[1]! - tokens[0]!) / 2048]);
});

Deno.test("train() logs the mean over the steps since the last logged one", async () => {
  const each = await lab.train({ num_train_epochs: 2.5 });
  const rare = await lab.train({ num_train_epochs: 2.5, logging_steps: 3 });
  assert.deepEqual(rare.metrics.map(({ step }) => step), [3, 5]);
  for (const name of ["loss", "rewards/margins", "logps/chosen", "rewards/accuracies", "fill_rate"]) {
    const [a, b, c, d, e] = metricOf(each, name) as number[];
    const [first, second] = metricOf(rare, name) as number[];
    assert.ok(Math.abs(first! - (a! + b! + c!) / 3) < 1e-5, name);
    assert.ok(Math.abs(second! - (d! + e!) / 2) < 1e-5, name);
  }
  for (const name of ["grad_norm", "learning_rate", "epoch", "num_tokens"]) {
    assert.deepEqual(metricOf(rare, name), [2, 4].map((i) => metricOf(each, name)[i]));
  }
  assert.deepEqual(await filesOf(rare.result), await filesOf(each.result));
});

Deno.test("train() evaluates every eval_steps and at the end, without a trace in the training", async () => {
  const spec = { num_train_epochs: 2.5, logging_steps: 2 };
  const alone = await lab.train(spec);
  const run = await lab.train({ ...spec, eval_rows: plainRows(3, 9), eval_steps: 3 });
  const evaluated = run.metrics.filter(({ metrics }) => "eval_loss" in metrics);
  assert.deepEqual(evaluated.map(({ step }) => step), [3, 5]);
  const names = ["loss", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "rewards/margins"];
  const more = ["logps/chosen", "logps/rejected", "logits/chosen", "logits/rejected", "sft_loss"];
  assert.deepEqual(Object.keys(evaluated[0]!.metrics), [...names, ...more].map((name) => `eval_${name}`));
  const training = run.metrics
    .map(({ step, metrics }) => ({
      step,
      metrics: Object.fromEntries(Object.entries(metrics).filter(([name]) => !name.startsWith("eval_"))),
    }))
    .filter(({ metrics }) => Object.keys(metrics).length > 0);
  assert.deepEqual(training, alone.metrics.map(({ step, metrics }) => ({ step, metrics })));
  assert.deepEqual(await filesOf(run.result), await filesOf(alone.result));
});

Deno.test("train() learns: SimPO parts chosen from rejected, likelihood training lowers the loss", async () => {
  for (const settings of [{}, { lora: null, learning_rate: 3e-3 }, { rows: chatRows(8) }]) {
    const run = await lab.train({ num_train_epochs: 6, ...settings });
    const margins = metricOf(run, "rewards/margins") as number[];
    assert.ok(margins.at(-1)! > margins[0]! + 1, `${margins}`);
    assert.equal(metricOf(run, "rewards/accuracies").at(-1), 1);
  }
  const rows = plainRows(8).map(({ prompt, chosen }) => ({ prompt, completion: chosen }));
  const sft = await lab.train({ method: { type: "sft" }, rows, num_train_epochs: 6, learning_rate: 3e-2 });
  const loss = metricOf(sft, "loss") as number[];
  assert.ok(loss.at(-1)! < 0.8 * loss[0]!, `${loss}`);
  assert.deepEqual(Object.keys(sft.metrics[0]!.metrics), [
    "loss",
    "logps/chosen",
    "logits/chosen",
    "grad_norm",
    "learning_rate",
    "epoch",
    "num_tokens",
    "fill_rate",
  ]);
});

Deno.test("train() logs rewards without gamma, and the loss with it", async () => {
  const at = (method: object) => lab.train({ method: { type: "simpo", beta: 2, ...method }, max_steps: 1 });
  const [without, withGamma] = [await at({ gamma: 0 }), await at({ gamma: 1.5 })];
  const [a, b] = [without.metrics[0]!.metrics, withGamma.metrics[0]!.metrics];
  assert.equal(a["rewards/margins"], b["rewards/margins"]);
  assert.ok(b["loss"]! > a["loss"]!);
  assert.ok(Math.abs(2 * a["logps/chosen"]! - a["rewards/chosen"]!) < 1e-5);
});

Deno.test("train() leaves unusable rows out and says which", async () => {
  const rows = [...plainRows(2), { prompt: "a", chosen: "", rejected: "b" }, ...plainRows(2, 3)];
  const eval_rows = [{ prompt: "a", chosen: "b", rejected: "" }, row];
  const { events, metrics } = await lab.train({ rows, eval_rows, max_steps: 1 });
  assert.deepEqual(events.filter(({ type }) => type === "left_out"), [
    { type: "left_out", split: "train", ...leftOut(3, "response 1 of 2 is empty") },
    { type: "left_out", split: "eval", ...leftOut(1, "response 2 of 2 is empty") },
  ]);
  const clean = await lab.train({ rows: rows.toSpliced(2, 1), eval_rows: [row], max_steps: 1 });
  assert.deepEqual(metrics, clean.metrics);
});

Deno.test("train() warns of what it cuts, and raises a micro-batch that holds no row", async () => {
  const warnings = ({ events }: Trained) =>
    events.flatMap((event) => event.type === "warning" ? [event.message] : []);
  const long = { ...row, prompt: "the thin hand ".repeat(20) };
  const cut = await lab.train({ rows: [row, long], max_steps: 1, max_length: 40, max_prompt_length: 20 });
  assert.deepEqual(warnings(cut), [
    "train: 1 prompts and the responses of 0 rows were cut to fit max_length 40 (max_prompt_length 20). " +
    "The longest row takes 176 tokens, more than the model's context of 128.",
  ]);
  const less = { ...long, prompt: "the thin hand ".repeat(8) };
  const short = await lab.train({ rows: [row, less], max_steps: 1, max_length: 40, max_prompt_length: 20 });
  assert.match(warnings(short)[0]!, /max_length 80 would keep them whole\.$/);
  const [context, raised] = warnings(
    await lab.train({ max_steps: 1, max_length: 4096, micro_batch_tokens: 8 }),
  );
  assert.equal(context, "max_length 4096 is cut to the model's context of 128 tokens.");
  assert.match(raised!, /^micro_batch_tokens 8 is raised to \d+, the size of the largest row\.$/);
});

const refusals: [name: string, job: Parameters<Lab["train"]>[0], field: string, message: RegExp][] = [
  [
    "no usable row",
    { rows: [{ prompt: "a", chosen: "", rejected: "b" }] },
    "dataset: row 1",
    /^dataset: row 1 cannot be used: response 1 of 2 is empty\.$/,
  ],
  [
    "no usable eval row",
    { eval_rows: [{ prompt: "", chosen: "b", rejected: "" }] },
    "eval_dataset: row 1",
    /^eval_dataset: row 1 cannot be used: response 2 of 2 is empty\.$/,
  ],
  [
    "a malformed row",
    {
      max_left_out: 0,
      dataset: await lab.writeRows("malformed.jsonl", [row, { prompt: "a", chosen: 1, rejected: "b" }]),
    },
    "dataset: malformed.jsonl: row 2: chosen",
    /row 2/,
  ],
  [
    "target_modules that match nothing",
    { lora: { r: 2, target_modules: ["k_prog"] } },
    "target_modules",
    /k_prog/,
  ],
];
for (const [name, job, field, message] of refusals) {
  Deno.test(`train() refuses ${name} as the user's mistake, and goes on with the next job`, async () => {
    await assert.rejects(lab.train(job), (error) => {
      assert.ok(error instanceof InputError, String(error));
      assert.match(error.message, message);
      assert.equal(error.field, field);
      return true;
    });
    assert.equal((await lab.train({ max_steps: 1 })).outcome, "succeeded");
  });
}

Deno.test("train() that diverges fails with the step and what would help", async () => {
  const job = lab.train({ lora: null, past: { learning_rate: 1e30 }, max_grad_norm: 0, max_steps: 6 });
  await assert.rejects(job, (error) => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(error.message, /^Training diverged: \S+ at step \d+ is (NaN|-?Infinity)\.$/);
    assert.equal(error.field, "learning_rate");
    return true;
  });
});

Deno.test("train()'s signal ends the job after its micro-batch, without a result", async () => {
  const directory = lab.path("to-cancel");
  const cancel = new AbortController();
  const run = await lab.train({
    directory,
    num_train_epochs: 1000,
    signal: cancel.signal,
    onEvent: (event) => {
      if (event.type === "progress" && event.step === 3) cancel.abort();
    },
  });
  assert.equal(run.outcome, "cancelled");
  assert.ok(run.step >= 3 && run.step < 2000, `${run.step}`);
  await assert.rejects(Deno.stat(join(directory, "result")), Deno.errors.NotFound);
  assert.equal((await lab.train({ max_steps: 2 })).outcome, "succeeded");
});

Deno.test("call() ends the call of its signal alone, and has one slot for training", async () => {
  const [cancel, done] = [new AbortController(), new AbortController()];
  let steps = 0;
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const onEvent = ({ type }: { type: string }) => {
    if (type === "progress" && ++steps === 1) begin();
  };
  const job = lab.train({ num_train_epochs: 1000, signal: done.signal, onEvent });
  await begun;
  await assert.rejects(lab.train({ max_steps: 1 }), /training slots are taken/);
  const items = plainRows(300).map(itemOf);
  const request = {
    model: lab.model,
    adapter: null,
    quantization: null,
    beta: 2,
    token_logprobs: false,
    items,
  };
  const gone = Array.fromAsync(stream(lab.engine, "score", request, { signal: cancel.signal }));
  const kept = lab.score(items.slice(0, 3));
  cancel.abort();
  await assert.rejects(gone, (error) => error === cancel.signal.reason);
  assert.equal((await kept).length, 3);
  const before = steps;
  while (steps === before) await new Promise((resolve) => setTimeout(resolve, 1));
  done.abort();
  assert.equal((await job).outcome, "cancelled");
});

Deno.test("stop() refuses the scores under way, though a job has still to leave its checkpoint", async () => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const job = lab.train({ num_train_epochs: 1000, onEvent: ({ type }) => type === "progress" && begin() });
  await begun;
  const refused = assert.rejects(
    lab.score(plainRows(1).map(itemOf)),
    (error) => error instanceof InputError && error.status === 503,
  );
  await Promise.all([refused, lab.restart()]);
  assert.equal((await job).outcome, "stopped");
});

Deno.test("train()'s signal ends a job that is still reading rows", async () => {
  const rows = plainRows(20_000);
  const directory = lab.path("to-cancel-early");
  const { outcome, events } = await lab.train({ directory, rows, signal: AbortSignal.timeout(50) });
  assert.equal(outcome, "cancelled");
  assert.deepEqual(events, []);
});

Deno.test("score() is served between micro-batches while a job trains", async () => {
  const log: string[] = [];
  let calls: Promise<void>[] = [];
  const run = await lab.train({
    num_train_epochs: 10,
    batch_size: 8,
    micro_batch_tokens: 64,
    onEvent: (event) => {
      if (event.type !== "progress") return;
      log.push(`step ${event.step}`);
      if (event.step !== 3) return;
      calls = [0, 1, 2].map(async (i) => {
        await lab.score(plainRows(2).map(itemOf));
        log.push(`score ${i}`);
      });
    },
  });
  await Promise.all(calls);
  assert.equal(run.outcome, "succeeded");
  const last = log.indexOf("step 10");
  for (const i of [0, 1, 2]) {
    const at = log.indexOf(`score ${i}`);
    assert.ok(at > log.indexOf("step 3") && at < last, log.join(", "));
  }
  const alone = await lab.train({ num_train_epochs: 10, batch_size: 8, micro_batch_tokens: 64 });
  assert.deepEqual(run.metrics, alone.metrics);
});

Deno.test("score() uses a running job's checkpoint", async () => {
  const item = itemOf(row);
  let scored: Promise<number> | null = null;
  const directory = lab.path("checkpointed");
  await lab.train({
    directory,
    num_train_epochs: 20,
    save_steps: 5,
    onEvent: (event) => {
      if (event.type !== "checkpoint" || scored) return;
      const adapter = join(directory, "checkpoints", "step-000005");
      scored = lab.score([item], { adapter }).then(([scored]) => scored!.results[0]!.average_logprob!);
    },
  });
  const { result } = await lab.train({ num_train_epochs: 20, max_steps: undefined, save_steps: 0 });
  const short = await lab.train({ max_steps: 5 });
  const at5 = (await lab.score([item], { adapter: short.result }))[0]!.results[0]!.average_logprob;
  const end = (await lab.score([item], { adapter: result }))[0]!.results[0]!.average_logprob;
  assert.equal(await scored, at5);
  assert.notEqual(at5, end);
});

Deno.test("train() mixes data sets by weight and limit, and holds whole prompts out for evaluation", async () => {
  const first = await lab.writeRows("first.jsonl", plainRows(12));
  const second = await lab.writeRows("second.jsonl", plainRows(6, 3));
  const mixed = await lab.train({ dataset: [{ ...first, limit: 4, weight: 2 }, { ...second, weight: 0.5 }] });
  // 4 rows twice and 3 of 6, in batches of 4
  assert.equal(mixed.step, 3);
  const rows = mixed.events.find((event) => event.type === "rows");
  assert.deepEqual([rows?.rows, rows?.shapes.length], [10, 1]);

  const prompts = Array.from({ length: 10 }, (_, i) => ({ ...row, prompt: `${"the tin ".repeat(i + 1)}` }));
  const twice = prompts.flatMap((row) => [row, { ...row, chosen: " out" }]);
  const held = await lab.train({ rows: twice, eval_fraction: 0.2 });
  assert.equal(held.step, 4); // 16 of 20 rows
  assert.equal(metricOf(held, "eval_loss").filter((loss) => loss !== undefined).length, 1);
  assert.ok(!held.events.some((event) => event.type === "warning"));
  const eval_rows = twice.slice(0, 3);
  const shared = await lab.train({ rows: twice, eval_rows });
  const warnings = shared.events.flatMap((event) => event.type === "warning" ? [event.message] : []);
  assert.deepEqual(warnings, ["3 of the 3 rows of the evaluation stand among those of the training too."]);
});
