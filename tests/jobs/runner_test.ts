import assert from "node:assert/strict";
import { join } from "node:path";
import { DeviceLostError, InputError } from "../../src/errors.ts";
import { jobFolder, newJobId } from "../../src/jobs/folder.ts";
import { parseJobSpec } from "../../src/jobs/spec.ts";
import { refusal } from "../helpers/fake_engine.ts";
import { gate, makeRoot, type TestService, testService } from "../helpers/service.ts";

const spec = parseJobSpec({ model: "model", dataset: { path: "rows.jsonl" } });

/** Queues a job. */
function put({ service: { store, runner } }: TestService, dataset = spec.dataset): string {
  const { job } = store.create(newJobId(), { ...spec, dataset });
  runner.wake();
  return job.id;
}

Deno.test("JobRunner trains one job at a time, in order", async () => {
  const order: string[] = [];
  const first = gate();
  await using service = await testService({
    beforeStep: async (id, step) => {
      order.push(`${id} ${step}`);
      if (order.length === 1) await first.opened;
    },
  });
  const ids = [put(service), put(service)];
  await service.until(ids[0]!, "running");
  assert.equal(service.service.store.get(ids[1]!)?.status, "queued");
  first.open();
  await service.until(ids[1]!, "succeeded");
  assert.deepEqual(order, ids.flatMap((id) => [1, 2, 3].map((step) => `${id} ${step}`)));
  const job = service.service.store.get(ids[0]!)!;
  assert.deepEqual([job.status, job.progress.step, job.progress.total_steps, job.seconds_remaining], [
    "succeeded",
    3,
    3,
    0,
  ]);
  assert.equal(job.metrics?.["eval_loss"], 0.5);
});

Deno.test("JobRunner trains a job a slot side by side, and ends one of them alone", async () => {
  const root = await makeRoot();
  try {
    const steps = gate();
    const before = await testService({ root, trainingSlots: 2, beforeStep: () => steps.opened });
    const [first, second, third] = [put(before), put(before), put(before)];
    while (before.engine.trained.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    const { store, runner } = before.service;
    const statuses = () => [first, second, third].map((id) => store.get(id)!.status);
    store.recordLoading(first, { bytes: 1, total_bytes: 2 });
    store.recordDownload(second, { file: "f", bytes: 3, total_bytes: 4 });
    assert.deepEqual([store.get(first)!.loading?.bytes, store.get(second)!.loading], [1, null]);
    assert.deepEqual([store.get(first)!.downloading, store.get(second)!.downloading?.bytes], [null, 3]);
    assert.deepEqual(statuses(), ["running", "running", "queued"]);
    runner.cancel(first);
    steps.open();
    await before.until(first, "cancelled");
    await before.until(second, "succeeded");
    await before.until(third, "succeeded"); // the slot that came free is filled
    await before.stop();

    const held = gate();
    const stopping = await testService({ root, trainingSlots: 2, beforeStep: () => held.opened });
    const both = [put(stopping), put(stopping)];
    while (stopping.engine.trained.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    const stopped = stopping.service.runner.stop();
    held.open();
    await stopped;
    assert.deepEqual(both.map((id) => stopping.service.store.get(id)!.status), ["queued", "queued"]);
    await stopping.stop();
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("JobRunner hands the engine absolute paths and the request's rows", async () => {
  await using service = await testService();
  await service.until(put(service), "succeeded");
  const comparisons = [{ row: 1, prompt: "a", responses: ["b", "c"] }];
  await service.until(put(service, { comparisons }), "succeeded");
  const [byPath, byRows] = service.engine.trained;
  const root = await Deno.realPath(service.root);
  assert.equal(byPath?.model, join(root, "model"));
  assert.deepEqual(byPath?.dataset, { path: join(root, "rows.jsonl") });
  assert.deepEqual(byRows?.dataset, { comparisons });
  assert.deepEqual(byPath?.settings, spec.settings);
});

Deno.test("JobRunner fails a job with the engine's words and goes on with the next", async () => {
  await using service = await testService();
  service.engine.failing.set("model", refusal("model.lm_head"));
  const failed = put(service);
  await service.until(failed, "failed");
  assert.deepEqual(service.service.store.get(failed)?.error, {
    message: "model.lm_head cannot be used.",
    field: "model.lm_head",
    value: "x",
    accepted: "something else",
  });
  service.engine.failing.set("model", new Error("device lost"));
  const broken = put(service);
  await service.until(broken, "failed");
  assert.deepEqual(service.service.store.get(broken)?.error, { message: "device lost" });
  service.engine.failing.clear();
  await service.until(put(service), "succeeded");
});

Deno.test("JobRunner asks for the adapter that a job begins with until the job has a checkpoint", async () => {
  await using service = await testService();
  const { store, runner, config: { state } } = service.service;
  const settings = { ...spec.settings, lora: { ...spec.settings.lora!, init_adapter: "gone" } };
  const [fresh, resumed] = [newJobId(), newJobId()];
  await Deno.mkdir(join(jobFolder(state, resumed), "checkpoints", "step-000001"), { recursive: true });
  // It is not what a run goes on from.
  await Deno.mkdir(join(jobFolder(state, fresh), "result", "of an earlier life"), { recursive: true });
  for (const id of [fresh, resumed]) store.create(id, { ...spec, settings });
  runner.wake();
  await service.until(fresh, "failed");
  assert.equal(store.get(fresh)?.error?.field, "lora.init_adapter");
  await service.until(resumed, "succeeded");
  assert.equal(service.engine.trained[0]?.init_adapter, null);
});

Deno.test("JobRunner fails a job whose data set has gone", async () => {
  await using service = await testService();
  const id = put(service, { path: "gone.jsonl" });
  await service.until(id, "failed");
  assert.equal(service.service.store.get(id)?.error?.field, "dataset.path");
});

Deno.test("JobRunner.cancel() ends a waiting job at once and a training one after its step", async () => {
  const step = gate();
  await using service = await testService({ beforeStep: () => step.opened });
  const { runner, store } = service.service;
  const running = put(service);
  const waiting = put(service);
  while (service.engine.trained.length === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  assert.equal(runner.cancel(waiting).status, "cancelled");
  const asked = runner.cancel(running);
  assert.deepEqual([asked.status, asked.cancel_requested], ["running", true]);
  step.open();
  await service.until(running, "cancelled");
  assert.equal(service.engine.trained.length, 1);
  assert.equal(runner.cancel(running).status, "cancelled");
  assert.deepEqual(store.events(running, 0).at(-1)?.data, { status: "cancelled", step: 0 });
});

Deno.test("JobRunner.cancel() refuses a job that has ended otherwise", async () => {
  await using service = await testService();
  const id = put(service);
  await service.until(id, "succeeded");
  assert.throws(
    () => service.service.runner.cancel(id),
    (error) =>
      error instanceof InputError && error.status === 409 && /has succeeded and cannot/.test(error.message),
  );
});

Deno.test("JobRunner takes a stopped job up again from its checkpoint, with the events of one life", async () => {
  const root = await makeRoot();
  try {
    const step = gate();
    const before = await testService({ root, beforeStep: (_, n) => n === 2 ? step.opened : undefined });
    const id = put(before);
    const waiting = put(before);
    while (before.service.store.get(id)?.progress.step !== 1) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const stopped = before.stop();
    step.open();
    await stopped;

    await using after = await testService({ root });
    await after.until(waiting, "succeeded");
    const { store } = after.service;
    assert.equal(store.get(id)?.status, "succeeded");
    const statuses = store.events(id, 0).filter(({ type }) => type === "status").map(({ data }) => data);
    assert.deepEqual(statuses, [
      { status: "queued" },
      { status: "running", total_steps: 3, resumed_from: 0 },
      { status: "queued" },
      { status: "running", total_steps: 3, resumed_from: 1 },
    ]);
    const metrics = store.events(id, 0).filter(({ type }) => type === "metrics").map(({ data }) => data);
    const undisturbed = store.events(waiting, 0).filter(({ type }) => type === "metrics").map(({ data }) =>
      data
    );
    assert.deepEqual(metrics, undisturbed);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});

Deno.test("JobRunner takes a job up again whose device was lost", async () => {
  let lost = 0;
  await using service = await testService({
    beforeStep: (_, step) => {
      if (step === 2 && lost++ < 2) throw new DeviceLostError("The GPU device was lost: test.");
    },
  });
  const id = put(service);
  await service.until(id, "succeeded");
  assert.equal(service.engine.trained.length, 3);
  const { store } = service.service;
  assert.deepEqual(
    store.events(id, 0).filter(({ type }) => type === "metrics").map(({ data }) => data["step"]),
    [1, 2, 3, 3],
  );
});

Deno.test("JobRunner fails a job under which the device is lost again and again, and goes on with the next", async () => {
  let first: string | null = null;
  await using service = await testService({
    beforeStep: (id, step) => {
      first ??= id;
      if (id === first && step === 2) throw new DeviceLostError("The GPU device was lost: test.");
    },
  });
  const ids = [put(service), put(service)];
  await service.until(ids[1]!, "succeeded");
  const { status, error } = service.service.store.get(ids[0]!)!;
  assert.deepEqual([status, error?.message], ["failed", "The GPU device was lost: test."]);
  assert.equal(service.engine.trained.length, 4);
});
