import assert from "node:assert/strict";
import { join } from "node:path";
import { InputError } from "../../src/errors.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { TrainedParameters } from "../../src/model/parameters.ts";
import { readSealedJson, writeSealedJson } from "../../src/model/sealed_json.ts";
import {
  findCheckpoint,
  readRunState,
  restoreMoments,
  type RunState,
  writeCheckpoint,
} from "../../src/training/checkpoint.ts";
import { publish } from "../../src/training/publish.ts";
import type { Trainable } from "../../src/training/trainable.ts";
import { settingsOf } from "../helpers/settings.ts";
import { writeJobSettings } from "../../src/jobs/folder.ts";
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
  const write = async (folder: string) => {
    await (save?.(folder) ?? Deno.writeTextFile(join(folder, "adapter_config.json"), "{}"));
    return {};
  };
  return {
    decoder: undefined as never,
    trained,
    save: write,
    publish: write,
    free: () => trained.free(),
  };
}

function stateOf(step: number): RunState {
  return {
    step,
    num_tokens: 1234,
    metrics: { loss: Math.fround(1 / 3), "rewards/margins": -2.5e-38, examples: 0 },
    filled: { tokens: 100, room: 128 },
    grad_norm: Math.fround(0.7),
    logged: false,
    history: [{ step, metrics: { loss: Math.fround(0.69), "rewards/margins": -0.25 } }],
    objective_state: { reference: [0.25, { of: "a later objective" }] },
    fingerprints: null,
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

Deno.test("findCheckpoint() does not take a checkpoint of a later version for a damaged one", () =>
  inCheckpoints(async (folder) => {
    const target = trainable(parameters());
    for (const step of [1, 2]) await writeCheckpoint(gpu, folder, target, stateOf(step), 2);
    const manifest = join(folder, "step-000002", "manifest.json");
    await writeSealedJson(manifest, { ...await readSealedJson(manifest), version: 3 });
    await assert.rejects(findCheckpoint(folder, [], assert.fail), {
      name: "InputError",
      message: "manifest.json of step-000002 is of version 3.",
    });
    assert.deepEqual(await names(folder), ["step-000001", "step-000002"]);
    target.free();
  }));

Deno.test("findCheckpoint() takes no checkpoint of which any bit is another", () =>
  inCheckpoints(async (folder) => {
    const target = trainable(parameters());
    await writeCheckpoint(gpu, folder, target, stateOf(1), 2);
    const source = random(12);
    for (const name of await names(join(folder, "step-000001"))) {
      const path = join(folder, "step-000001", name);
      const bytes = await Deno.readFile(path);
      for (let flip = 0; flip < 40; flip++) {
        const [at, bit] = [source.integer(bytes.length), source.integer(8)];
        await Deno.writeFile(path, bytes.with(at, bytes[at]! ^ (1 << bit)));
        const found = await findCheckpoint(folder, [], assert.fail).catch((error) => error);
        // a number may be written in several ways: 1E-7 is 1e-7
        if (!(found instanceof InputError)) assert.deepEqual(found.state, stateOf(1), `${name} ${at} ${bit}`);
        else assert.ok(found.message.includes(name), found.message);
        assert.ok(found instanceof InputError || name === "manifest.json", `${name} ${at} ${bit}`);
      }
      await Deno.writeFile(path, bytes);
    }
    assert.deepEqual((await findCheckpoint(folder, [], assert.fail))?.state, stateOf(1));
    target.free();
  }));

Deno.test("findCheckpoint() names the tensor whose bytes are others", () =>
  inCheckpoints(async (folder) => {
    const target = trainable(parameters());
    for (const step of [1, 2]) await writeCheckpoint(gpu, folder, target, stateOf(step), 2);
    await flipBit(join(folder, "step-000002", "optimizer.safetensors"), -1);
    const warnings: string[] = [];
    await findCheckpoint(folder, [], (message) => warnings.push(message));
    assert.deepEqual(warnings, [
      "The checkpoint step-000002 is damaged, so the run goes on from step-000001: " +
      "variance.1 in optimizer.safetensors is not as it was written: its checksum is another.",
    ]);
    target.free();
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
      "manifest.json",
      "optimizer.safetensors",
    ]);
    trained.free();
  }));

Deno.test("a checkpoint whose files were damaged is refused by name", () =>
  inCheckpoints(async (folder) => {
    const target = trainable(parameters());
    await writeCheckpoint(gpu, folder, target, stateOf(1), 2);
    const checkpoint = (await newest(folder))!;
    for (const name of ["manifest.json", "optimizer.safetensors"]) {
      const path = join(checkpoint, name);
      const bytes = await Deno.readFile(path);
      await Deno.writeFile(path, bytes.subarray(0, bytes.length - 3));
      const reading = name === "manifest.json"
        ? readRunState(checkpoint)
        : restoreMoments(gpu, checkpoint, target.trained.segments, go);
      await assert.rejects(reading, (error) => error instanceof InputError && error.field === name);
    }
    target.free();
  }));

const damages: [name: string, file: string, damage: (path: string) => Promise<void>][] = [
  ["a manifest cut off", "manifest.json", (path) => Deno.truncate(path, 9)],
  ["a manifest of another form", "manifest.json", (path) => Deno.writeTextFile(path, "{}")],
  ["no manifest", "manifest.json", (path) => Deno.remove(path)],
  [
    "a step of another number",
    "manifest.json",
    (path) => replaceIn(path, '"num_tokens":1234', '"num_tokens":1235'),
  ],
  ["the manifest of another job", "manifest.json", (path) => reseal(path, { job: "job-x" })],
  ["the manifest of another step", "manifest.json", (path) => reseal(path, { step: 7 })],
  ["a manifest without a history", "manifest.json", (path) => reseal(path, { history: null })],
  ["a metric of another number", "manifest.json", (path) => replaceIn(path, "0.3333", "0.3323")],
  ["a moment of one other bit", "optimizer.safetensors", (path) => flipBit(path, -100)],
  ["a header of one other bit", "optimizer.safetensors", (path) => flipBit(path, 20)],
  ["a configuration of one other bit", "adapter_config.json", (path) => flipBit(path, 0)],
  ["moments cut off", "optimizer.safetensors", (path) => Deno.truncate(path, 1000)],
  ["an empty file of moments", "optimizer.safetensors", (path) => Deno.truncate(path)],
  ["a configuration cut off", "adapter_config.json", (path) => Deno.truncate(path, 1)],
  ["no configuration", "adapter_config.json", (path) => Deno.remove(path)],
];

async function reseal(path: string, other: object): Promise<void> {
  await writeSealedJson(path, { ...await readSealedJson(path), ...other });
}

async function replaceIn(path: string, text: string, by: string): Promise<void> {
  const content = await Deno.readTextFile(path);
  assert.ok(content.includes(text));
  await Deno.writeTextFile(path, content.replace(text, by));
}

/** @param at a byte's number, from the end where it is negative */
async function flipBit(path: string, at: number): Promise<void> {
  const bytes = await Deno.readFile(path);
  bytes[at < 0 ? bytes.length + at : at]! ^= 1;
  await Deno.writeFile(path, bytes);
}

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

/** Paths of what is flushed and where each rename leads, in order. */
async function flushed(work: () => Promise<void>): Promise<string[]> {
  const done: string[] = [];
  const { open, rename } = Deno;
  Deno.open = async (path, options) => {
    const file = await open(path, options);
    const sync = file.sync.bind(file);
    file.sync = async () => {
      await sync();
      done.push(`${path}`);
    };
    return file;
  };
  Deno.rename = async (from, to) => {
    await rename(from, to);
    done.push(`-> ${to}`);
  };
  try {
    await work();
  } finally {
    Object.assign(Deno, { open, rename });
  }
  return done;
}

Deno.test("writeCheckpoint() and publish() flush the folders in which a power cut would lose what they made", () =>
  inFolder(async (job) => {
    const trained = parameters();
    const learned = trainable(trained);
    const checkpoints = join(job, "checkpoints");
    const first = await flushed(() => writeCheckpoint(gpu, checkpoints, learned, stateOf(1), 2));
    assert.deepEqual(first.slice(-3), [`-> ${join(checkpoints, "step-000001")}`, checkpoints, job]);
    const result = join(job, "result");
    const last = await flushed(() => publish(learned, result));
    assert.deepEqual(last.slice(-2), [`-> ${result}`, job]);
    const settings = await flushed(() => writeJobSettings(job, "job-1", settingsOf({})));
    assert.deepEqual(settings.slice(-2), [join(job, "jobs"), job]);
    trained.free();
  }));
