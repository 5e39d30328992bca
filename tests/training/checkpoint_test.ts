import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { TrainedParameters } from "../../src/model/parameters.ts";
import {
  findCheckpoint,
  readRunState,
  restoreMoments,
  type RunState,
  writeCheckpoint,
} from "../../src/training/checkpoint.ts";
import type { Trainable } from "../../src/training/trainable.ts";
import { inFolder } from "../helpers/folder.ts";
import { random } from "../helpers/random.ts";

const gpu = await Gpu.open({ device: "auto" });

const parameters = () =>
  new TrainedParameters(gpu, [
    { name: "a", shape: [7, 5], decay: true },
    { name: "b", shape: [130], decay: true },
    { name: "norm", shape: [5], decay: false },
  ]);

function trainable(trained: TrainedParameters, save?: (folder: string) => Promise<void>): Trainable {
  return {
    decoder: undefined as never,
    trained,
    save: save ?? ((folder) => Deno.writeTextFile(join(folder, "adapter_config.json"), "{}")),
    free: () => trained.free(),
  };
}

function stateOf(step: number): RunState {
  return {
    step,
    num_tokens: 1234,
    window: [0.1, Math.fround(1 / 3), -2.5e-38],
    filled: { tokens: 100, room: 128 },
    grad_norm: Math.fround(0.7),
    logged: false,
    history: [{ step, metrics: { loss: Math.fround(0.69), "rewards/margins": -0.25 } }],
  };
}

/** Gives a test a folder for checkpoints, which is not there yet. */
const inCheckpoints = (test: (folder: string) => Promise<void>) =>
  inFolder((folder) => test(join(folder, "checkpoints")));

const go = () => Promise.resolve();

/** The newest whole checkpoint's folder, without a warning. */
const newest = async (folder: string) => (await findCheckpoint(folder, [], assert.fail))?.path ?? null;

const names = async (folder: string) =>
  (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();

Deno.test("writeCheckpoint() keeps state and moments bit for bit", () =>
  inCheckpoints(async (folder) => {
    const source = random(1);
    const before = parameters();
    for (const { mean, variance, count } of before.segments) {
      gpu.write(mean, source.normals(count));
      gpu.write(variance, source.normals(count, 1e-6));
    }
    await writeCheckpoint(gpu, folder, trainable(before), stateOf(3), 2);
    const checkpoint = (await newest(folder))!;
    assert.deepEqual(await readRunState(checkpoint), stateOf(3));
    const after = parameters();
    await restoreMoments(gpu, checkpoint, after.segments, go);
    for (const [i, { mean, variance }] of after.segments.entries()) {
      const expected = before.segments[i]!;
      assert.deepEqual(await gpu.readF32(mean), await gpu.readF32(expected.mean));
      assert.deepEqual(await gpu.readF32(variance), await gpu.readF32(expected.variance));
    }
    before.free();
    after.free();
  }));

Deno.test("writeCheckpoint() keeps the two newest by number", () =>
  inCheckpoints(async (folder) => {
    assert.equal(await newest(folder), null);
    const target = trainable(parameters());
    for (const step of [9, 10, 100, 1_000_000]) await writeCheckpoint(gpu, folder, target, stateOf(step), 2);
    assert.deepEqual(await names(folder), ["step-000100", "step-1000000"]);
    assert.equal(await newest(folder), join(folder, "step-1000000"));
    target.free();
  }));

Deno.test("writeCheckpoint() that breaks off leaves nothing that counts, and is done over", () =>
  inCheckpoints(async (folder) => {
    const trained = parameters();
    await writeCheckpoint(gpu, folder, trainable(trained), stateOf(1), 2);
    const full = new Error("no space left on the device");
    const broken = trainable(trained, async (aside) => {
      await Deno.writeTextFile(join(aside, "adapter_model.safetensors"), "half a fi");
      throw full;
    });
    await assert.rejects(writeCheckpoint(gpu, folder, broken, stateOf(2), 2), (error) => error === full);
    assert.equal(await newest(folder), join(folder, "step-000001"));
    await Deno.mkdir(join(folder, ".step-000007.partial"));
    await writeCheckpoint(gpu, folder, trainable(trained), stateOf(2), 2);
    assert.equal(await newest(folder), join(folder, "step-000002"));
    assert.deepEqual(await names(folder), ["step-000001", "step-000002"]);
    assert.deepEqual(await names(join(folder, "step-000002")), [
      "adapter_config.json",
      "optimizer.safetensors",
      "trainer_state.json",
    ]);
    trained.free();
  }));

Deno.test("a checkpoint whose files were damaged is refused by name", () =>
  inCheckpoints(async (folder) => {
    const target = trainable(parameters());
    await writeCheckpoint(gpu, folder, target, stateOf(1), 2);
    const checkpoint = (await newest(folder))!;
    for (const name of ["trainer_state.json", "optimizer.safetensors"]) {
      const path = join(checkpoint, name);
      const bytes = await Deno.readFile(path);
      await Deno.writeFile(path, bytes.subarray(0, bytes.length - 3));
      const reading = name === "trainer_state.json"
        ? readRunState(checkpoint)
        : restoreMoments(gpu, checkpoint, target.trained.segments, go);
      await assert.rejects(reading, (error) => error instanceof InputError && error.field === name);
    }
    target.free();
  }));

const damages: [name: string, file: string, damage: (path: string) => Promise<void>][] = [
  ["a state cut off", "trainer_state.json", (path) => Deno.truncate(path, 9)],
  ["a state of another form", "trainer_state.json", (path) => Deno.writeTextFile(path, "{}")],
  ["no state", "trainer_state.json", (path) => Deno.remove(path)],
  ["moments cut off", "optimizer.safetensors", (path) => Deno.truncate(path, 1000)],
  ["an empty file of moments", "optimizer.safetensors", (path) => Deno.truncate(path)],
  ["a configuration cut off", "adapter_config.json", (path) => Deno.truncate(path, 1)],
  ["no configuration", "adapter_config.json", (path) => Deno.remove(path)],
];
for (const [name, file, damage] of damages) {
  Deno.test(`findCheckpoint() passes over a checkpoint with ${name}, says so, and puts it aside`, () =>
    inCheckpoints(async (folder) => {
      const target = trainable(parameters());
      for (const step of [1, 2]) await writeCheckpoint(gpu, folder, target, stateOf(step), 2);
      await damage(join(folder, "step-000002", file));
      const warnings: string[] = [];
      const find = () => findCheckpoint(folder, ["adapter_config.json"], (message) => warnings.push(message));
      assert.deepEqual(await find(), { path: join(folder, "step-000001"), state: stateOf(1) });
      assert.equal(warnings.length, 1);
      assert.match(
        warnings[0]!,
        /^The checkpoint step-000002 is damaged, so the run goes on from step-000001: /,
      );
      assert.ok(warnings[0]!.includes(file));
      assert.deepEqual(await names(folder), ["step-000001", "step-000002.damaged"]);
      await damage(join(folder, "step-000001", file));
      await assert.rejects(find(), (error) => error instanceof InputError && error.message.includes(file));
      assert.deepEqual(await names(folder), ["step-000001", "step-000002.damaged"]);
      target.free();
    }));
}
