import assert from "node:assert/strict";
import { exportMerged } from "../../src/model/export.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { plainRows, TINY_FAMILIES } from "../helpers/tiny_model.ts";
import { itemOf, Lab, loggedMeans, logprobsOf, meansOf } from "./_lab.ts";
import { variant } from "../helpers/tier.ts";

const lab = await Lab.open();

Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

for (const [i, [family, config]] of Object.entries(TINY_FAMILIES).entries()) {
  const rows = plainRows(8);
  const items = rows.map(itemOf);
  const means = async (options: Parameters<Lab["score"]>[1]) =>
    meansOf(logprobsOf(await lab.score(items, options)));

  const [testAdapter, testWhole] = [variant(i % 2 === 0), variant(i % 2 === 1)];
  testAdapter(`${family}: what LoRA learns is what /score and a merged model show`, async () => {
    const model = await lab.writeModel(`${family}-lora`, { config });
    const job = await lab.train({
      model,
      rows,
      eval_rows: rows,
      max_steps: 4,
      batch_size: 4,
      learning_rate: 1e-2,
    });
    const adapted = await means({ model, adapter: job.result });
    assertClose(adapted, loggedMeans(job.metrics.at(-1)!, "eval_"), { rtol: 1e-5, relativeTo: "element" });
    const out = lab.path(`${family}-merged`);
    await exportMerged(model, job.result, out);
    const merged = await means({ model: out });
    assertClose(merged, adapted, { rtol: 1e-5, relativeTo: "element" });
    const base = await means({ model });
    assert.throws(() => assertClose(base, merged, { rtol: 1e-4, relativeTo: "element" }));
  });

  testWhole(`${family}: full fine-tuning writes a model of the same family`, async () => {
    const model = await lab.writeModel(`${family}-full`, { config, dtype: "BF16" });
    const settings = {
      lora: null,
      save_dtype: "f32", // bf16 as the base has it would round what was learned
      learning_rate: 1e-3,
      max_steps: 2,
      batch_size: 4,
      activation_recomputation: true,
    };
    const job = await lab.train({ model, rows, eval_rows: rows, ...settings });
    const scored = await means({ model: job.result });
    assertClose(scored, loggedMeans(job.metrics.at(-1)!, "eval_"), { rtol: 1e-5, relativeTo: "element" });
  });
}
