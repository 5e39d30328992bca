/** A run that is stopped and taken up again ends with the numbers of one that was not. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { plainRows } from "../helpers/tiny_model.ts";
import { filesOf, type JobEvent, type JobOptions, Lab, type Trained } from "./_lab.ts";
import { variant } from "../helpers/tier.ts";

const lab = await Lab.open();
Deno.test.afterAll(() => lab[Symbol.asyncDispose]());
const packed = await lab.writeModel("packed", { dtype: "BF16", tied: false, sharded: true });

/** Epochs of three steps, several micro-batches a step, and nothing that falls on one step with anything else. */
const JOB: JobOptions = {
  rows: plainRows(10),
  eval_rows: plainRows(7, 11),
  num_train_epochs: 4,
  micro_batch_tokens: 64,
  lr_scheduler_type: "cosine",
  warmup_ratio: 0.2,
  method: { type: "simpo", sft_weight: 0.3 },
  logging_steps: 2,
  eval_steps: 5,
  save_steps: 3,
};

const trainings: Record<string, JobOptions> = {
  LoRA: { ...JOB, lora: { r: 4, dropout: 0.1 } },
  "LoRA and whole modules": {
    ...JOB,
    model: packed,
    lora: {
      r: 3,
      dropout: 0.1,
      target_modules: ["v_proj"],
      modules_to_save: ["embed_tokens", "norm", "q_proj"],
    },
    weight_decay: 0.1,
  },
  "LoRA and whole modules on an int8 base": {
    ...JOB,
    quantization: "int8",
    lora: {
      r: 3,
      dropout: 0.1,
      target_modules: ["v_proj", "up_proj"],
      modules_to_save: ["lm_head", "q_proj"],
    },
  },
  "full fine-tuning": { ...JOB, model: packed, lora: null, learning_rate: 3e-3, weight_decay: 0.1 },
};

/** When a life of the run ends: at an event, or some milliseconds after it. */
interface Stop {
  readonly at: string;
  readonly ms?: number;
}

const nameOf = (event: JobEvent) => "step" in event ? `${event.type} ${event.step}` : event.type;

/** Trains until each stop in turn, every life in a new engine, then to the end. */
async function trainThrough(stops: readonly Stop[], job: JobOptions, directory: string): Promise<Trained[]> {
  const lives: Trained[] = [];
  for (const stop of [...stops, null]) {
    const life = await lab.train({
      ...job,
      directory,
      onEvent: (event) => {
        if (nameOf(event) !== stop?.at) return;
        const { engine } = lab;
        if (stop.ms === undefined) void engine.stop();
        else setTimeout(() => engine.stop(), stop.ms);
      },
    });
    lives.push(life);
    if (stop) await lab.restart();
    // a fast device may be done before it hears of the stop
    if (life.outcome === "succeeded") break;
  }
  assert.equal(lives[0]!.outcome, "stopped");
  return lives;
}

/** Metrics by step, each once; a life that tells them again must tell the same. */
function metricsOf(lives: readonly Trained[]): [number, Record<string, number>][] {
  const bySteps = new Map<number, Readonly<Record<string, number>>>();
  for (const { step, metrics } of lives.flatMap(({ metrics }) => metrics)) {
    if (bySteps.has(step)) assert.deepEqual(metrics, bySteps.get(step), `step ${step} told again`);
    bySteps.set(step, metrics);
  }
  return [...bySteps].sort(([a], [b]) => a - b);
}

for (const [name, job] of Object.entries(trainings)) {
  const test = variant(name === "LoRA" || name === "full fine-tuning");
  test(`a stopped run of ${name} goes on to the same end, bit for bit`, async () => {
    const whole = await lab.train(job);
    const files = await filesOf(whole.result);
    assert.equal(whole.step, 12);
    const schedules: Stop[][] = [
      // after an update, right after a checkpoint, before and behind an evaluation
      [{ at: "status" }, { at: "progress 4" }, { at: "metrics 5" }, { at: "checkpoint 9" }],
      // wherever it happens to be
      [{ at: "progress 4", ms: 0 }, { at: "progress 7", ms: 5 }, { at: "progress 9", ms: 12 }],
    ];
    for (const [i, stops] of schedules.entries()) {
      const lives = await trainThrough(stops, job, lab.path(`${name}-${i}`));
      assert.deepEqual(metricsOf(lives), metricsOf([whole]));
      assert.deepEqual(await filesOf(lives.at(-1)!.result), files);
      for (const [life, { events }] of lives.entries()) {
        const status = events.find(({ type }) => type === "status");
        assert.equal(
          status?.type === "status" && status.resumed_from > 0,
          life > 0 && lives[life - 1]!.step > 0,
        );
      }
    }
  });
}

Deno.test("a run stopped in an evaluation does it over", async () => {
  // nearly all of the time is evaluation
  const job = {
    ...JOB,
    eval_rows: plainRows(120, 11),
    eval_steps: 1,
    max_steps: 4,
    num_train_epochs: undefined,
  };
  const whole = await lab.train(job);
  const directory = lab.path("evaluating");
  const first = await trainThrough(
    [{ at: "metrics 1", ms: 60 }, { at: "metrics 3", ms: 60 }],
    job,
    directory,
  );
  assert.deepEqual(metricsOf(first), metricsOf([whole]));
  assert.deepEqual(await filesOf(first.at(-1)!.result), await filesOf(whole.result));
});

Deno.test("stop() leaves a checkpoint of the last finished step, from which /score can go", async () => {
  const directory = lab.path("stopped");
  const life = await lab.train({
    ...JOB,
    directory,
    num_train_epochs: 100,
    save_steps: 0,
    onEvent: (event) => nameOf(event) === "progress 2" && lab.engine.stop(),
  });
  assert.equal(life.outcome, "stopped");
  assert.ok(life.step >= 2);
  const folder = join(directory, "checkpoints");
  const name = `step-${String(life.step).padStart(6, "0")}`;
  assert.deepEqual(await Array.fromAsync(Deno.readDir(folder), ({ name }) => name), [name]);
  assert.deepEqual(life.events.at(-1), { type: "checkpoint", step: life.step });
  await lab.restart();
  const [scored] = await lab.score([{ prompt: "a", candidates: ["b"] }], { adapter: join(folder, name) });
  assert.equal(scored!.results.length, 1);
});

Deno.test("stop() while rows are read, or while nothing trains, ends at once and refuses what comes after", async () => {
  const job = lab.train({ rows: plainRows(20_000), directory: lab.path("early") });
  await new Promise((resolve) => setTimeout(resolve, 50));
  await lab.engine.stop();
  const { outcome, events } = await job;
  assert.deepEqual([outcome, events], ["stopped", []], "the rows were read to their end");
  await assert.rejects(lab.score([{ prompt: "a", candidates: ["b"] }]), /stopping/);
  await assert.rejects(lab.train(), /stopping/);
  await lab.restart();
  await lab.engine.stop();
  await lab.restart();
});

Deno.test("a run whose result was not put in its place yet only does that", async () => {
  const directory = lab.path("unpublished");
  const whole = await lab.train({ ...JOB, directory });
  const files = await filesOf(whole.result);
  await Deno.remove(whole.result, { recursive: true });
  await Deno.mkdir(`${whole.result}.partial`);
  await Deno.writeTextFile(join(`${whole.result}.partial`, "adapter_model.safetensors"), "half a fi");
  const again = await lab.train({ ...JOB, directory });
  assert.deepEqual(metricsOf([again]), metricsOf([whole]));
  assert.ok(!again.events.some(({ type }) => type === "progress"));
  assert.deepEqual(await filesOf(again.result), files);
  await assert.rejects(Deno.stat(`${whole.result}.partial`), Deno.errors.NotFound);
});

Deno.test("a run goes on from the newest whole checkpoint and takes no notice of a begun one", async () => {
  const directory = lab.path("begun");
  const whole = await lab.train({ ...JOB, directory: lab.path("not-begun") });
  const first = await lab.train({
    ...JOB,
    directory,
    onEvent: (event) => nameOf(event) === "checkpoint 6" && lab.engine.stop(),
  });
  await lab.restart();
  const begun = join(directory, "checkpoints", ".step-000009.partial");
  await Deno.mkdir(begun);
  await Deno.writeTextFile(join(begun, "trainer_state.json"), "{");
  const second = await lab.train({ ...JOB, directory });
  assert.deepEqual(metricsOf([first, second]), metricsOf([whole]));
  assert.deepEqual(await filesOf(second.result), await filesOf(whole.result));
  const left = await Array.fromAsync(Deno.readDir(join(directory, "checkpoints")), ({ name }) => name);
  assert.deepEqual(left.sort(), ["step-000009", "step-000012"]);
});

for (const [name, job] of Object.entries(trainings)) {
  const test = variant(name === "LoRA");
  test(`a run of ${name} whose newest checkpoint is damaged goes on from the one before, and says so`, async () => {
    const directory = lab.path(`damaged ${name}`);
    const whole = await lab.train({ ...job, directory: lab.path(`undamaged ${name}`) });
    const first = await lab.train({
      ...job,
      directory,
      onEvent: (event) => nameOf(event) === "checkpoint 6" && lab.engine.stop(),
    });
    await lab.restart();
    const newest = join(directory, "checkpoints", `step-${String(first.step).padStart(6, "0")}`);
    await Deno.truncate(join(newest, job.lora ? "adapter_model.safetensors" : "model.safetensors"), 3000);
    const second = await lab.train({ ...job, directory });
    const [warning] = second.events.flatMap((event) => event.type === "warning" ? [event.message] : []);
    assert.match(
      warning!,
      /^The checkpoint step-00000\d is damaged, so the run goes on from step-00000\d: .*model\.safetensors/,
    );
    const resumed = second.events.flatMap((event) => event.type === "status" ? [event.resumed_from] : []);
    assert.ok(resumed[0]! > 0 && resumed[0]! < first.step, `${resumed}`);
    assert.deepEqual(metricsOf([first, second]), metricsOf([whole]));
    assert.deepEqual(await filesOf(second.result), await filesOf(whole.result));
  });
}
