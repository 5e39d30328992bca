import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError, Interrupted } from "../../src/errors.ts";
import { Gpu, type GpuOptions } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import type { TrainingHost } from "../../src/training/host.ts";
import { train } from "../../src/training/job.ts";
import type { MemoryPlan } from "../../src/training/memory_plan.ts";
import type { TrainEvent } from "../../src/training/request.ts";
import { filesOf } from "../engine/_lab.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { plainRows, writeTinyModel } from "../helpers/tiny_model.ts";
import { type RunOptions, runTiny, tokenising } from "./_run.ts";

/** Full fine-tuning for a step. */
async function run(
  gpu: Omit<GpuOptions, "device">,
  max_length: number,
  spec: Readonly<Record<string, unknown>> = {},
): Promise<readonly TrainEvent[]> {
  return (await runTiny({ gpu, spec: { lora: null, max_length, max_prompt_length: 16, ...spec } })).events;
}

Deno.test("train() lowers micro-batches to what the device can bind, and learns the same", async () => {
  const small = await run({ maxTensorBytes: 100 * 64 * 4 }, 24, { micro_batch_tokens: 2048 });
  assert.equal(
    warningsOf(small).at(-1),
    "micro_batch_tokens 2048 is lowered to 100, the most that this device can bind of this model.",
  );
  const [expected, actual] = [await run({}, 24), small].map((events) =>
    events.find((event) => event.type === "metrics")!.metrics
  );
  for (const [name, value] of Object.entries(expected!)) {
    if (name !== "fill_rate") assertClose([actual![name]!], [value], { rtol: 1e-5, name });
  }
});

Deno.test("train() refuses a row that the device cannot bind, with the length that it can", async () => {
  await assert.rejects(run({ maxTensorBytes: 32 * 64 * 4 }, 96), (error) => {
    assert.ok(error instanceof InputError, String(error));
    assert.match(
      error.message,
      /^The largest row takes \d+ tokens, more than a batch of this model may have here\.$/,
    );
    assert.equal(error.field, "max_length");
    assert.match(error.problem.accepted!, /^rows of at most 32 tokens,/);
    return true;
  });
});

Deno.test("train() gives back all it took, wherever the device's room ends", async () => {
  for (let limit = 2 ** 12, full = false; !full; limit *= 1.6) {
    // as if the device told nothing: what does not fit shows when it is allocated
    const context = { room: () => Promise.resolve(null) };
    const spec = { lora: null, max_length: 24, max_prompt_length: 16 };
    full = await runTiny({ gpu: { memoryLimitBytes: limit }, spec, context }).then(() => true, (error) => {
      assert.equal(error.name, "GpuMemoryError", String(error));
      return false;
    });
  }
});

Deno.test("train() takes a smaller shape where the driver refuses the one that it would choose", async () => {
  const plans: MemoryPlan[] = [];
  const spec = { lora: null, max_length: 24, max_prompt_length: 16 };
  const run = (memoryLimitBytes: number) =>
    runTiny({
      gpu: { memoryLimitBytes },
      spec,
      context: { room: () => Promise.resolve(null) },
      onEvent: (event) => event.type === "plan" && plans.push(event.plan),
    });
  await run(2 ** 30);
  const [largest] = plans.splice(0);
  const { outcome } = await run(Math.floor(largest!.total_bytes * 0.6));
  assert.equal(outcome.outcome, "succeeded");
  assert.deepEqual(plans[0], largest);
  assert.ok(plans.length > 1 && plans.at(-1)!.total_bytes <= largest!.total_bytes * 0.6);
});

Deno.test("train() says where a resumed run must go on in another shape, however late that shows", async () => {
  const directory = await Deno.makeTempDir();
  const spec = { lora: null, max_length: 24, max_prompt_length: 16 };
  try {
    const said = async (more: Pick<RunOptions, "gpu" | "context"> = {}) => {
      const { events } = await runTiny({ directory, spec, ...more });
      const plan = events.find((event) => event.type === "plan")!.plan;
      return {
        plan,
        warnings: warningsOf(events).filter((message) => message.startsWith("The run goes on")),
      };
    };
    const { plan, warnings } = await said();
    assert.deepEqual([...warnings, ...(await said()).warnings], []);
    const gpu = { memoryLimitBytes: Math.floor(plan.total_bytes * 0.6) };
    for (const context of [{}, { room: () => Promise.resolve(null) }]) {
      const { warnings } = await said({ gpu, context });
      assert.equal(warnings.length, 1);
      assert.match(warnings[0]!, /not of 2048 tokens and activations kept as before/);
    }
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
});

Deno.test("train() ends within the reading of its weights or moments by a stop or a cancel, and goes on afterwards", async () => {
  const directory = await Deno.makeTempDir();
  const model = await writeTinyModel(join(directory, "model"));
  const gpu = await Gpu.open({ device: "auto" });
  const life = async (how: "stop" | "cancel" | null, between: "stop" | "continue" = "continue") => {
    const settings = settingsOf({ lora: null, max_steps: 1, max_length: 24, max_prompt_length: 16 });
    const dataset = datasetOf(plainRows(8));
    const request = {
      id: "job",
      model,
      dataset,
      eval_dataset: null,
      settings,
      init_adapter: null,
      directory,
    };
    const context: TrainingHost = {
      gpu,
      config: await readModelConfig(model),
      tokenise: tokenising(request),
      loadBase: () => Promise.reject(new Error("All weights are trained.")),
      onLoad: ({ bytes, total_bytes }) => {
        if (how !== null && bytes > total_bytes / 2) throw new Interrupted(how);
      },
      emit: () => {},
      between: () => Promise.resolve(between),
      room: () => gpu.freeBytes(),
      makeRoom: () => false,
    };
    const outcome = await train(context, request);
    assert.equal(gpu.memory.bytes, 0);
    return outcome;
  };
  try {
    assert.deepEqual(await life("stop"), { outcome: "stopped", step: 0 });
    assert.deepEqual(await life("cancel"), { outcome: "cancelled", step: 0 });
    assert.deepEqual(
      await Array.fromAsync(Deno.readDir(directory), ({ name }) => name).then((names) => names.sort()),
      ["model", "tokens"],
    );
    assert.deepEqual(await life(null), { outcome: "succeeded", step: 1 });
    // the moments are read as the last; what is restored by half must not be saved as a checkpoint
    const checkpoint = await filesOf(join(directory, "checkpoints"));
    assert.deepEqual(await life("stop"), { outcome: "stopped", step: 1 });
    assert.deepEqual(await life(null, "stop"), { outcome: "stopped", step: 1 });
    assert.deepEqual(await filesOf(join(directory, "checkpoints")), checkpoint);
  } finally {
    gpu.close();
    await Deno.remove(directory, { recursive: true });
  }
});

function warningsOf(events: readonly TrainEvent[]): string[] {
  return events.flatMap((event) => event.type === "warning" ? event.message : []);
}
