/** A base held in 8 bits: training and scoring see the same numbers and share it, merging takes the file's weights. */
import assert from "node:assert/strict";
import { openAdapter } from "../../src/model/adapter.ts";
import { exportMerged } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { adapterName } from "../../src/model/weights.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { itemOf, Lab, loggedMeans, logprobsOf, meansOf } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const ROWS = plainRows(6);
const ITEMS = ROWS.map(itemOf);
const quantization = "int8";

/** Mean average log-probs of the rows' chosen and of their rejected responses. */
async function means(options: Parameters<Lab["score"]>[1]): Promise<number[]> {
  return meansOf(logprobsOf(await lab.score(ITEMS, options)));
}

Deno.test("score() agrees with train() on an int8 base, before and after", async () => {
  const job = { rows: ROWS, eval_rows: ROWS, batch_size: ROWS.length, max_steps: 4, quantization };
  const { metrics, result } = await lab.train(job);
  const before = await means({ quantization });
  assertClose(loggedMeans(metrics[0]!, ""), before, { rtol: 1e-5 });
  const after = await means({ quantization, adapter: result });
  assertClose(loggedMeans(metrics.at(-1)!, "eval_"), after, { rtol: 1e-5 });
  assert.ok(Math.abs(after[0]! - before[0]!) > 0.01, "training changed nothing");
  // the rounding shows
  const plain = await means({});
  assert.throws(() => assertClose(before, plain, { rtol: 1e-5 }));
  assertClose(before, plain, { rtol: 0.01 });
});

Deno.test("modules saved beside an adapter on an int8 base are trained, scored and gone on from in f32", async () => {
  const lora = { r: 2, modules_to_save: ["q_proj", "lm_head"] };
  const job = { rows: ROWS, eval_rows: ROWS, quantization, lora };
  const { metrics, result } = await lab.train({ ...job, max_steps: 6 });
  const scored = await means({ quantization, adapter: result });
  assertClose(loggedMeans(metrics.at(-1)!, "eval_"), scored, { rtol: 1e-5 });

  const asBase = await lab.train({ ...job, learning_rate: 1e-30, max_steps: 1 });
  const name = "model.layers.0.self_attn.q_proj.weight";
  using base = await WeightFiles.open(lab.model);
  using adapter = await openAdapter(asBase.result);
  assert.deepEqual(await adapter.readF32(adapterName(name)), await base.readF32(name)); // not rounded to 8 bits

  const still = await lab.train({ ...job, init_adapter: result, learning_rate: 1e-30, max_steps: 1 });
  assert.deepEqual(loggedMeans(still.metrics.at(-1)!, "eval_"), loggedMeans(metrics.at(-1)!, "eval_"));
});

Deno.test("score() and train() on an int8 base share it", async () => {
  await using lab = await Lab.open();
  await Promise.all([
    lab.train({ max_steps: 2, quantization }),
    lab.score(ITEMS, { quantization }),
  ]);
  const { by_name } = await lab.engine.call("memory", null);
  await using other = await Lab.open();
  await other.score(ITEMS, { quantization });
  assert.deepEqual(by_name, (await other.engine.call("memory", null)).by_name);
  await other.score(ITEMS);
  // and not with what is held as the file has it
  const name = "model.layers.0.mlp.up_proj.weight";
  assert.equal((await other.engine.call("memory", null)).by_name[name], 48 * 32 * 4 + by_name[name]!);
});

Deno.test("an adapter trained on an int8 base is merged into the file's own weights", async () => {
  const { result } = await lab.train({ max_steps: 4, quantization });
  await exportMerged(lab.model, result, lab.path("merged"));
  const merged = await means({ model: lab.path("merged") });
  assertClose(merged, await means({ adapter: result }), { rtol: 1e-5 });
});
