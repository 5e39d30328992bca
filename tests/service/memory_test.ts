/** Memory as a user sees it: what a job needs, what is chosen, and the refusal where it cannot fit. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { startReal } from "../helpers/process.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { type Answer, makeRealRoot, Worker } from "./_worker.ts";

const JOB = {
  model: "models/tiny",
  dataset: { rows: plainRows(8) },
  max_steps: 1,
  batch_size: 8,
  max_length: 40,
  max_prompt_length: 16,
  lora: null,
};

/** Runs a job to its end with a limit of memory. @returns the job as it then is */
async function jobWith(
  root: string,
  gibibytes: number,
  job: Readonly<Record<string, unknown>>,
): Promise<Answer["body"]> {
  await using worker = await Worker.start(root, {
    SIMPO_MEMORY: gibibytes.toFixed(9),
    SIMPO_STATE: join(root, `state-${crypto.randomUUID()}`),
  });
  const { status, body: { id } } = await worker.post("/train", job);
  assert.equal(status, 202);
  for await (const _ of worker.events(id, 0));
  return (await worker.get(`/train/${id}`)).body;
}

Deno.test("a job takes what SIMPO_MEMORY lets it, or is refused with figures", async () => {
  await using root = await makeRealRoot();
  const roomy = await jobWith(root.path, 1, JOB);
  assert.equal(roomy.status, "succeeded");
  assert.equal(roomy.plan.available_bytes, 2 ** 30);
  assert.deepEqual([roomy.plan.micro_batch_tokens, roomy.plan.activation_recomputation], [2048, false]);
  assert.deepEqual([roomy.settings.micro_batch_tokens, roomy.settings.activation_recomputation], [
    null,
    "auto",
  ]);

  const given = { ...JOB, micro_batch_tokens: 700 };
  const kept = (await jobWith(root.path, 1, { ...given, activation_recomputation: false })).plan;
  const tight = 0.99 * kept.total_bytes / 2 ** 30;
  const chosen = await jobWith(root.path, tight, given);
  assert.equal(chosen.status, "succeeded", JSON.stringify(chosen.error));
  assert.deepEqual([chosen.plan.micro_batch_tokens, chosen.plan.activation_recomputation], [700, true]);

  const refused = await jobWith(root.path, tight, { ...given, activation_recomputation: false });
  assert.equal(refused.status, "failed");
  assert.match(
    refused.error.message,
    /^The job needs [\d.]+ MiB of the device's memory with 700 tokens a micro-batch and activations kept \(.*activations [\d.]+ MiB.*\); [\d.]+ MiB are to be had, enough for activation_recomputation and micro_batch_tokens left out\.$/,
  );
  assert.match(refused.error.accepted, /^activation_recomputation and micro_batch_tokens left out/);
});

Deno.test("plan prints what a job needs, of a folder with nothing but config.json too", async () => {
  await using root = await makeRealRoot();
  await Deno.mkdir(join(root.path, "models", "bare"));
  await writeTinyModel(join(root.path, "models", "bf16"), { dtype: "BF16" });
  await Deno.copyFile(
    join(root.path, "models", "bf16", "config.json"),
    join(root.path, "models", "bare", "config.json"),
  );
  const plan = async (model: string, args: readonly string[], env: Record<string, string> = {}) => {
    const path = join(root.path, "job.json");
    await Deno.writeTextFile(path, JSON.stringify({ ...JOB, lora: {}, model: `models/${model}` }));
    await using process = await startReal(root.path, ["plan", ...args, path], env);
    return { code: await process.code, stdout: await process.stdout, stderr: process.lines.join("\n") };
  };
  const planOf = async (model: string) => JSON.parse((await plan(model, ["--json"])).stdout)[0];
  const [tiny, bf16, bare] = [await planOf("tiny"), await planOf("bf16"), await planOf("bare")];
  assert.deepEqual(bare, bf16);
  assert.ok(tiny.bytes.weights > 1.9 * bf16.bytes.weights);
  const { code, stdout } = await plan("bare", [], { SIMPO_MEMORY: "1" });
  assert.equal(code, 0);
  assert.match(stdout, /^weights +[\d.]+ KiB\n(?:\w+ +[\d.]+ [KM]iB\n)+total +[\d.]+ MiB of 1\.0 GiB\n/);
  assert.match(stdout, /\nmicro-batches of 2048 tokens, activations kept\n$/);
  const refused = await plan("bare", [], { SIMPO_MEMORY: "0.0003" });
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /^The job needs /m);
});
