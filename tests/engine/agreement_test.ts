/** Scoring and training see the same numbers, and a run's numbers depend on what it should alone. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { exportMerged } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { chatRows, plainRows } from "../helpers/tiny_model.ts";
import { filesOf, itemOf, Lab, loggedMeans, logprobsOf, meansOf, type Trained } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

/** Metrics by step, without what a step took. */
function numbersOf({ metrics }: Trained) {
  return metrics.map(({ step, metrics }) => ({ step, ...metrics }));
}

function assertMetricsClose(actual: Trained, expected: Trained, rtol: number): void {
  const [a, e] = [numbersOf(actual), numbersOf(expected)];
  assert.deepEqual(a.map(Object.keys), e.map(Object.keys));
  for (const [i, row] of e.entries()) {
    for (const [name, value] of Object.entries(row)) {
      const got = (a[i] as Record<string, number>)[name]!;
      assertClose([got], [value], { rtol, atol: rtol, name: `step ${row.step} ${name}` });
    }
  }
}

async function weightsOf(
  folder: string,
  file = "adapter_model.safetensors",
): Promise<Map<string, Float32Array>> {
  using checkpoint = await WeightFiles.openFile(join(folder, file));
  return new Map(
    await Promise.all(
      checkpoint.names().map(async (name) => [name, await checkpoint.readF32(name)] as const),
    ),
  );
}

const kinds = { plain: plainRows(6), conversational: chatRows(6) };
const trainings = { LoRA: {}, "full fine-tuning": { lora: null, learning_rate: 3e-3 } };

for (const [kind, rows] of Object.entries(kinds)) {
  Deno.test(`score() of a ${kind} row agrees with the first step's logps of that row`, async () => {
    for (const row of rows.slice(0, 3)) {
      const { metrics } = await lab.train({ rows: [row], max_steps: 1, batch_size: 1 });
      const [item] = await lab.score([itemOf(row)]);
      const scored = logprobsOf([item!]);
      assertClose(loggedMeans(metrics[0]!, ""), scored, { rtol: 1e-5, relativeTo: "element" });
      assert.equal(metrics[0]!.metrics["rewards/accuracies"], item!.best === 0 ? 1 : 0);
    }
  });

  for (const [name, settings] of Object.entries(trainings)) {
    Deno.test(`score() of ${kind} rows with the result of ${name} agrees with the last evaluation`, async () => {
      const { metrics, result } = await lab.train({ rows, eval_rows: rows, max_steps: 4, ...settings });
      const before = await lab.score(rows.map(itemOf));
      const after = await lab.score(rows.map(itemOf), { adapter: result });
      assertClose(meansOf(logprobsOf(after)), loggedMeans(metrics.at(-1)!, "eval_"), { rtol: 1e-5 });
      assert.ok(
        Math.abs(meansOf(logprobsOf(after))[0]! - meansOf(logprobsOf(before))[0]!) > 0.01,
        "training changed nothing",
      );
    });
  }
}

Deno.test("an evaluation drops nothing out", async () => {
  const rows = plainRows(6);
  const lora = { r: 4, dropout: 0.5 };
  const { metrics, result } = await lab.train({ rows, eval_rows: rows, max_steps: 4, lora });
  const scored = await lab.score(rows.map(itemOf), { adapter: result });
  assertClose(loggedMeans(metrics.at(-1)!, "eval_"), meansOf(logprobsOf(scored)), { rtol: 1e-5 });
});

for (
  const [name, settings] of Object.entries({
    ...trainings,
    "LoRA with dropout": { lora: { r: 4, dropout: 0.3 } },
    "likelihood training": { method: { type: "sft" }, rows: sftRows() },
  })
) {
  Deno.test(`${name} with one seed gives one result bit for bit, with another seed another`, async () => {
    const job = { num_train_epochs: 2, eval_rows: sameSort(settings), ...settings };
    const first = await lab.train(job);
    const again = await lab.train(job);
    assert.deepEqual(numbersOf(again), numbersOf(first));
    assert.deepEqual(await filesOf(again.result), await filesOf(first.result));
    const other = await lab.train({ ...job, seed: 2 });
    assert.notDeepEqual(await filesOf(other.result), await filesOf(first.result));
  });
}

Deno.test("dropout changes what is learnt", async () => {
  const plain = await lab.train({ lora: { r: 4, dropout: 0 } });
  const other = await lab.train({ lora: { r: 4, dropout: 0.3 } });
  assert.notDeepEqual(await filesOf(other.result), await filesOf(plain.result));
});

for (
  const [name, settings] of Object.entries({
    ...trainings,
    "LoRA with sft_weight": { method: { type: "simpo", sft_weight: 0.5 } },
    "the hinge loss": {
      method: { type: "simpo", loss_type: "hinge", gamma: 1 },
      lora: null,
      learning_rate: 3e-3,
    },
    "likelihood training": { method: { type: "sft" }, rows: sftRows(), lora: null, learning_rate: 3e-3 },
  })
) {
  Deno.test(`gradient accumulation gives what one large batch gives: ${name}`, async () => {
    // a large epsilon: AdamW otherwise takes a step of full size for a gradient that is all rounding error
    const adam_epsilon = 1e-3;
    const job = { batch_size: 8, max_steps: 3, eval_rows: sameSort(settings), adam_epsilon, ...settings };
    const [large, small] = [
      await lab.train({ ...job, micro_batch_tokens: 2048 }),
      await lab.train({ ...job, micro_batch_tokens: 64 }),
    ];
    // how full they are is all that differs
    const unfilled = (trained: Trained): Trained => ({
      ...trained,
      metrics: trained.metrics.map(({ metrics: { fill_rate: _, ...metrics }, ...event }) => ({
        ...event,
        metrics,
      })),
    });
    assertMetricsClose(unfilled(small), unfilled(large), 1e-5);
    const file = "lora" in settings ? "model.safetensors" : "adapter_model.safetensors";
    const [expected, actual] = [await weightsOf(large.result, file), await weightsOf(small.result, file)];
    for (const [name, values] of expected) assertClose(actual.get(name)!, values, { rtol: 1e-5, name });
  });
}

for (
  const [name, settings] of Object.entries({
    ...trainings,
    "LoRA with dropout": { lora: { r: 4, dropout: 0.3 } },
  })
) {
  Deno.test(`activation_recomputation changes no number: ${name}`, async () => {
    const kept = await lab.train({ max_steps: 3, ...settings });
    const recomputed = await lab.train({ max_steps: 3, activation_recomputation: true, ...settings });
    assert.deepEqual(numbersOf(recomputed), numbersOf(kept));
    assert.deepEqual(await filesOf(recomputed.result), await filesOf(kept.result));
  });
}

for (
  const [name, options] of Object.entries({ tied: {}, untied: { tied: false }, sharded: { sharded: true } })
) {
  Deno.test(`a merged export scores as the adapter does: ${name} weights`, async () => {
    const model = await lab.writeModel(`merged-${name}`, options);
    const { result } = await lab.train({ model, max_steps: 4 });
    const out = lab.path(`merged-${name}-out`);
    await exportMerged(model, result, out);
    const items = plainRows(6).map(itemOf);
    const adapted = await lab.score(items, { model, adapter: result });
    const merged = await lab.score(items, { model: out });
    assertClose(logprobsOf(merged), logprobsOf(adapted), { rtol: 1e-5, relativeTo: "element" });
    const base = await lab.score(items, { model });
    assert.throws(() => assertClose(logprobsOf(base), logprobsOf(adapted), { rtol: 1e-3 }));
  });
}

Deno.test("score() gives the same numbers however the weights are stored", async () => {
  const items = plainRows(4).map(itemOf);
  const plain = logprobsOf(await lab.score(items, { model: await lab.writeModel("whole") }));
  const sharded = await lab.writeModel("sharded", { sharded: true });
  assert.deepEqual(logprobsOf(await lab.score(items, { model: sharded })), plain);
  for (const dtype of ["BF16", "F16"] as const) {
    const packed = await lab.writeModel(`packed-${dtype}`, { dtype });
    await exportMerged(packed, null, lab.path(`unpacked-${dtype}`), { dtype: "F32" });
    const expected = logprobsOf(await lab.score(items, { model: lab.path(`unpacked-${dtype}`) }));
    assertClose(logprobsOf(await lab.score(items, { model: packed })), expected, {
      rtol: 1e-5,
      relativeTo: "element",
    });
    assertClose(expected, plain, { rtol: 0.02 });
  }
});

Deno.test("a full run's result is a model of its own", async () => {
  const { result } = await lab.train({ max_steps: 3, lora: null, learning_rate: 3e-3 });
  const items = plainRows(4).map(itemOf);
  const own = await lab.score(items, { model: result });
  assert.deepEqual(own, await lab.score(items, { adapter: result }));
  const further = await lab.train({ model: result, max_steps: 2 });
  assert.equal(further.outcome, "succeeded");
});

Deno.test("simpo's boundary scores the assistant's header too", async () => {
  const rows = chatRows(4);
  const [trl, simpo] = [
    await lab.train({ rows, max_steps: 1 }),
    await lab.train({ rows, max_steps: 1, prompt_boundary: "simpo" }),
  ];
  assert.notEqual(simpo.metrics[0]!.metrics["logps/chosen"], trl.metrics[0]!.metrics["logps/chosen"]);
  // which is no longer shared: each response has its own
  assert.equal(simpo.metrics[0]!.metrics["num_tokens"], trl.metrics[0]!.metrics["num_tokens"]! + rows.length);
});

function sftRows() {
  return plainRows(8).map(({ prompt, chosen }) => ({ prompt, completion: chosen }));
}

function sameSort(settings: object): unknown[] {
  return "method" in settings && "rows" in settings ? sftRows() : plainRows(3, 9);
}
