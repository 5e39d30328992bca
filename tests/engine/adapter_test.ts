/** Adapters that training goes on from, and rsLoRA, through training, scoring and merging. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { exportMerged } from "../../src/model/export.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { plainRows } from "../helpers/tiny_model.ts";
import { filesOf, itemOf, Lab, loggedMeans, logprobsOf, meansOf } from "./_lab.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());

const ROWS = plainRows(4);

/** Average log-probs of the rows' chosen and rejected responses in turn. */
async function scores(adapter: string | null, model = lab.model): Promise<number[]> {
  return logprobsOf(await lab.score(ROWS.map(itemOf), { adapter, model }));
}

Deno.test("train() goes on from an adapter: from its own numbers, with the optimiser anew", async () => {
  const lora = { r: 3, alpha: 5, target_modules: ["q_proj", "down_proj"] };
  const first = await lab.train({ rows: ROWS, lora, max_steps: 3 });
  const again = await lab.train({ rows: ROWS, lora, max_steps: 1, init_adapter: first.result });
  const scored = await scores(first.result);
  assertClose(loggedMeans(again.metrics[0]!, ""), meansOf(scored), { rtol: 1e-5 });
  const weights = async (folder: string) => (await filesOf(folder))["adapter_model.safetensors"];
  assert.notDeepEqual(await weights(again.result), await weights(first.result));
  const untouched = await lab.train({
    rows: ROWS,
    lora,
    max_steps: 1,
    init_adapter: first.result,
    learning_rate: 1e-30,
  });
  assert.deepEqual(await weights(untouched.result), await weights(first.result));
});

Deno.test("train() warns of an adapter's own tokenizer, which it does not use", async () => {
  const lora = { r: 3, alpha: 5, target_modules: ["q_proj"] };
  const { result } = await lab.train({ rows: ROWS, lora, max_steps: 1 });
  const warnings = async () => {
    const { events } = await lab.train({ rows: ROWS, lora, max_steps: 1, init_adapter: result });
    return events.flatMap((event) => event.type === "warning" ? [event.message] : []);
  };
  assert.deepEqual(await warnings(), []);
  const path = join(result, "tokenizer_config.json");
  const config = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...config, eos_token: "<|user|>" }));
  assert.match((await warnings()).join(), /keeps a tokenizer or special tokens other than the model's/);
});

Deno.test("train() refuses an adapter of another form than its settings", async () => {
  const { result } = await lab.train({ max_steps: 1, lora: { r: 3, alpha: 6, target_modules: ["q_proj"] } });
  for (
    const lora of [
      { r: 2, alpha: 6, target_modules: ["q_proj"] },
      { r: 3, alpha: 5, target_modules: ["q_proj"] },
      { r: 3, alpha: 6, target_modules: ["k_proj"] },
      { r: 3, alpha: 6, target_modules: ["q_proj"], use_rslora: true },
    ]
  ) {
    await assert.rejects(lab.train({ max_steps: 1, lora, init_adapter: result }), (error) => {
      assert.ok(error instanceof InputError, String(error));
      assert.equal(error.field, "lora.init_adapter");
      return true;
    });
  }
});

Deno.test("rsLoRA: training, scoring and the merged weights agree on alpha / sqrt(r)", async () => {
  const lora = { r: 9, alpha: 6, use_rslora: true };
  const job = await lab.train({ rows: ROWS, eval_rows: ROWS, lora, max_steps: 3 });
  const config = JSON.parse(await Deno.readTextFile(join(job.result, "adapter_config.json")));
  assert.deepEqual([config.use_rslora, config.r, config.lora_alpha], [true, 9, 6]);
  const scored = await scores(job.result);
  assertClose(meansOf(scored), loggedMeans(job.metrics.at(-1)!, "eval_"), { rtol: 1e-5 });
  const merged = lab.path("merged");
  await exportMerged(lab.model, job.result, merged);
  assertClose(await scores(null, merged), scored, { rtol: 1e-5 });
  // the same factors with three times the alpha over r
  const plain = lab.path("plain");
  await Deno.mkdir(plain);
  await Deno.copyFile(
    join(job.result, "adapter_model.safetensors"),
    join(plain, "adapter_model.safetensors"),
  );
  const same = JSON.stringify({ ...config, use_rslora: false, lora_alpha: 18 });
  await Deno.writeTextFile(join(plain, "adapter_config.json"), same);
  assert.deepEqual(await scores(plain), scored);
});
