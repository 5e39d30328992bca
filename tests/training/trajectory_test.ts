import assert from "node:assert/strict";
import { join } from "node:path";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { train } from "../../src/training/job.ts";
import { ExampleOrder } from "../../src/training/schedule.ts";
import type { TrainingSettings } from "../../src/api/settings.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { tokenising } from "./_run.ts";
import {
  readTrajectory,
  TRAJECTORIES,
  type Trajectory,
  trajectoryModel,
  type TrajectoryName,
} from "../reference/trajectory.ts";

type Metrics = Readonly<Record<string, number>>;

/** Runs what TRL ran. @returns what was logged at each step, and the evaluation after the last */
async function follow(name: TrajectoryName, trajectory: Trajectory): Promise<Metrics[]> {
  const model = trajectoryModel(name);
  const lora = trajectory.settings.lora && { ...settingsOf().lora!, ...trajectory.settings.lora };
  const settings: TrainingSettings = { ...settingsOf(), ...trajectory.settings, lora };
  const directory = await Deno.makeTempDir({ prefix: "simpo-" });
  const init_adapter = lora && join(directory, "initial");
  if (init_adapter) await copyAdapter(join(model, "adapter"), init_adapter, lora.use_rslora);
  const gpu = await Gpu.open({ device: "auto" });
  const metrics: Metrics[] = [];
  try {
    const config = await readModelConfig(model);
    using checkpoint = await WeightFiles.open(model);
    const base = lora ? await loadDecoder(gpu, checkpoint, config, { trainable: false }) : null;
    const request = {
      id: "job",
      model,
      dataset: datasetOf(inOrder(settings, trajectory)),
      eval_dataset: datasetOf(trajectory.rows),
      settings,
      init_adapter,
      directory,
    };
    const { outcome } = await train({
      gpu,
      config,
      tokenise: tokenising(request),
      loadBase: () => Promise.resolve(base!.decoder),
      onLoad: () => {},
      emit: (event) => event.type === "metrics" && metrics.push(event.metrics),
      between: () => Promise.resolve("continue"),
      room: () => Promise.resolve(null),
      makeRoom: () => false,
    }, request);
    assert.equal(outcome, "succeeded");
    base?.free();
  } finally {
    gpu.close();
    await Deno.remove(directory, { recursive: true });
  }
  return metrics;
}

/** Files of an adapter in another folder; rsLoRA begins with the same factors. */
async function copyAdapter(from: string, to: string, use_rslora: boolean): Promise<void> {
  await Deno.mkdir(to);
  await Deno.copyFile(join(from, "adapter_model.safetensors"), join(to, "adapter_model.safetensors"));
  const config = JSON.parse(await Deno.readTextFile(join(from, "adapter_config.json")));
  await Deno.writeTextFile(join(to, "adapter_config.json"), JSON.stringify({ ...config, use_rslora }));
}

/** The rows of all steps, such that the run's own order of them is that of the trajectory. */
function inOrder(settings: TrainingSettings, { rows, steps }: Trajectory): unknown[] {
  const wanted = steps.flatMap((step) => step.rows);
  const order = new ExampleOrder(settings, wanted.length);
  const arranged = new Array<unknown>(wanted.length);
  const places = steps.flatMap((_, step) => [...order.ofStep(step)]);
  for (const [i, place] of places.entries()) arranged[place] = rows[wanted[i]!];
  return arranged;
}

/** What issue and README promise; rewards and margins pass through 0, where the absolute part decides. */
const TOLERANCES: Readonly<Record<string, { readonly rtol: number; readonly atol: number }>> = {
  learning_rate: { rtol: 0, atol: 0 },
  grad_norm: { rtol: 1e-3, atol: 0 },
  "rewards/accuracies": { rtol: 0, atol: 0 },
  others: { rtol: 1e-4, atol: 1e-5 },
};

/** Asserts that a metric follows TRL's values, step by step. */
function assertFollows(metric: string, actual: readonly number[], expected: readonly number[]): void {
  const tolerance = TOLERANCES[metric.replace(/^eval_/, "")] ?? TOLERANCES.others!;
  assertClose(actual, expected, { ...tolerance, relativeTo: "element", name: metric });
}

for (const name of TRAJECTORIES) {
  Deno.test(`train() goes where TRL's CPOTrainer goes, step by step: ${name}`, async () => {
    const trajectory = await readTrajectory(name);
    const { steps, evaluation } = trajectory;
    const metrics = await follow(name, trajectory);
    assert.equal(metrics.length, 20);
    const { rows: _, ...first } = steps[0]!;
    for (const metric of Object.keys(first) as (keyof typeof first)[]) {
      assertFollows(metric, metrics.map((step) => step[metric]!), steps.map((step) => step[metric]));
    }
    for (const [metric, value] of Object.entries(evaluation)) {
      assertFollows(metric, [metrics.at(-1)![metric]!], [value]);
    }
  });
}

for (const name of ["llama_full", "qwen3_full"] as const) {
  // Twenty steps' decay of a norm is too little to show in the metrics.
  Deno.test(`weight decay leaves out what TRL leaves out: ${name}`, async () => {
    const model = trajectoryModel(name);
    const gpu = await Gpu.open({ device: "auto" });
    try {
      using checkpoint = await WeightFiles.open(model);
      const config = await readModelConfig(model);
      const { trained } = await loadDecoder(gpu, checkpoint, config, { trainable: true });
      const undecayed = [...trained!.parameters].filter(([, { value }]) =>
        trained!.segments.some((segment) => segment.value.buffer === value.buffer && !segment.decay)
      );
      const { undecayed: expected } = await readTrajectory(name);
      assert.deepEqual(undecayed.map(([name]) => name).sort(), [...expected].sort());
    } finally {
      gpu.close();
    }
  });
}
