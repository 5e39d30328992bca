/** Who waits for a model's weights while they are read, and who goes. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { Models } from "../../src/engine/models.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import type { LoadProgress } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { encodeScore } from "../../src/scoring/encode_request.ts";
import type { ScoredItem } from "../../src/scoring/request.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const gpu = await Gpu.open({ device: "auto" });
const folder = await Deno.makeTempDir({ prefix: "simpo-" });
const model = await writeTinyModel(join(folder, "model"), { sharded: true, dtype: "BF16" });
const weights = { model, adapter: null, quantization: null };
Deno.test.afterAll(async () => {
  gpu.close();
  await Deno.remove(folder, { recursive: true });
});

const gone = new Error("gone");
/** Waits up to some bytes. */
const leaveAt = (most: number) => ({ bytes }: LoadProgress) => {
  if (bytes >= most) throw gone;
};
const stay = () => {};

/** A store of models, the loadings that were begun, and those that came to their end. */
function make(): { models: Models; count: { begun: number; ended: number }; warnings: string[] } {
  const count = { begun: 0, ended: 0 };
  const warnings: string[] = [];
  const weights = () => ({ bytes, total_bytes }: LoadProgress) => {
    if (bytes === 0) count.begun++;
    if (bytes === total_bytes) count.ended++;
  };
  const warning = (_: string, message: string) => void warnings.push(message);
  return { models: new Models(gpu, { weights, warning }), count, warnings };
}

Deno.test("base() tells how far it is, from 0 to the bytes that the files hold", async () => {
  const { models } = make();
  using checkpoint = await WeightFiles.open(model);
  const total = checkpoint.names().reduce((sum, name) => {
    const { begin, end } = checkpoint.info(name);
    return sum + end - begin;
  }, 0);
  for (const quantization of [null, "int8"] as const) {
    const seen: LoadProgress[] = [];
    const { release } = await models.base(model, quantization, (progress) => void seen.push(progress));
    assert.deepEqual(seen[0], { bytes: 0, total_bytes: total });
    assert.deepEqual(seen.at(-1), { bytes: total, total_bytes: total });
    assert.ok(seen.every(({ bytes }, i) => i === 0 || bytes > seen[i - 1]!.bytes));
    release();
    models.evict();
  }
});

Deno.test("base() and scorer() load once for all who wait, whoever of them goes", async () => {
  const { models, count } = make();
  const settled = await Promise.allSettled([
    models.base(model, null, leaveAt(1)),
    models.scorer(weights, leaveAt(5000)),
    models.base(model, null, stay),
    models.scorer(weights, leaveAt(0)),
  ]);
  assert.deepEqual(settled.map(({ status }) => status), ["rejected", "rejected", "fulfilled", "rejected"]);
  assert.deepEqual(settled.flatMap((each) => each.status === "rejected" ? [each.reason] : []), [
    gone,
    gone,
    gone,
  ]);
  assert.deepEqual(count, { begun: 1, ended: 1 });
  for (const each of settled) if (each.status === "fulfilled") each.value.release();
  models.evict();
  assert.equal(gpu.memory.bytes, 0, "nobody who went holds it");
});

Deno.test("base() and scorer() end early once nobody waits, give the memory back, and load anew when asked", async () => {
  const { models, count } = make();
  const asked = [() => models.base(model, null, leaveAt(9000)), () => models.scorer(weights, leaveAt(4000))];
  for (const waiting of [[asked[0]!], [asked[1]!], asked]) {
    const settled = await Promise.allSettled(waiting.map((ask) => ask()));
    assert.ok(settled.every((each) => each.status === "rejected" && each.reason === gone));
    // those who went did not wait for the end
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(gpu.memory.bytes, 0);
  }
  assert.deepEqual(count, { begun: 3, ended: 0 });
  const { release } = await models.scorer(weights, stay);
  assert.deepEqual(count, { begun: 4, ended: 1 });
  release();
  models.evict();
});

Deno.test("evict() lets go of the prompts that a scorer keeps, and the scorer goes on", async () => {
  const { models } = make();
  const { value: scorer, release } = await models.scorer(weights, stay);
  const kept = () => gpu.memory.byName()["prompts.k"] ?? 0;
  const items = [{ prompt: "the thin other hand in the sand", candidates: [" out"] }];
  const reader = { config: await readModelConfig(model), tokenizer: await loadTokenizer(model) };
  const request = { items, beta: 2, token_logprobs: false };
  const encoded = await encodeScore(reader, request, () => Promise.resolve());
  const score = async () => {
    const answers = await Array.fromAsync(scorer.score(encoded));
    const [{ results, usage }] = answers.flat() as [ScoredItem];
    return { logprob: results[0]!.average_logprob!, known: usage.cached_prompt_tokens };
  };
  const [first, , third] = [await score(), await score(), await score()];
  assert.deepEqual([first.known, third.known], [0, 16]);
  assert.ok(kept() > 0);
  assert.equal(models.evict(), true);
  assert.equal(kept(), 0);
  assert.equal(models.evict(), false);
  const { logprob, known } = await score();
  assert.equal(known, 0);
  assertClose([logprob, third.logprob], [first.logprob, first.logprob], { rtol: 1e-6 });
  release();
  models.evict();
  assert.equal(gpu.memory.bytes, 0);
});
