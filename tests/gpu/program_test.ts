import assert from "node:assert/strict";
import { defineKernel, fold, Gpu, GpuMemoryError, Program, rowsOf, STORAGE } from "../../src/gpu/mod.ts";

const gpu = await Gpu.open({ device: "auto" });

/** y[i] = x[i] * scale + i32 shift, for i < count. */
const AFFINE = defineKernel({
  name: "affine",
  source: `
struct Params { count: u32, scale: f32, shift: i32 }
@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.count) {
    y[id.x] = x[id.x] * params.scale + f32(params.shift);
  }
}`,
});

/** y[0] += 1, without parameters; a chain of many takes a while. */
const COUNT = defineKernel({
  name: "count",
  source: `
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() {
  y[0] += 1.0;
}`,
});

type Live = { count: number; scale: number; shift: number };

function affine(x: number[]) {
  const tensors = { x: gpu.upload("x", [x.length], Float32Array.from(x)), y: gpu.tensor("y", [x.length]) };
  const program = new Program<Live>(gpu, "test");
  program.dispatch(
    AFFINE,
    tensors,
    (live) => ({ params: live, invocations: live.count }),
  );
  return { ...tensors, program };
}

Deno.test("Program replays with other live numbers", async () => {
  const { y, program } = affine([1, 2, 3]);
  program.run({ count: 2, scale: 10, shift: -1 });
  assert.deepEqual([...await gpu.readF32(y)], [9, 19, 0]);
  program.run({ count: 3, scale: 0.5, shift: 0 });
  assert.deepEqual([...await gpu.readF32(y)], [0.5, 1, 1.5]);
  program.run({ count: 3, scale: 0.5, shift: 0 });
  assert.deepEqual([...await gpu.readF32(y)], [0.5, 1, 1.5]);
});

Deno.test("Program gives each run its own numbers though the device has not begun", async () => {
  const runs = 50;
  const program = new Program<{ add: number; rounds: number }>(gpu, "test");
  const x = gpu.upload("x", [1], Float32Array.of(1));
  const y = gpu.tensor("y", [1]);
  const kernel = defineKernel({
    name: "accumulate",
    source: `
struct Params { add: f32, rounds: u32 }
@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main() {
  var sum = y[0] * 0.5;
  for (var i = 0u; i < params.rounds; i++) {
    sum += x[0] * params.add;
  }
  y[0] = sum;
}`,
  });
  program.dispatch(kernel, { x, y }, (live) => ({ params: live, workgroups: [1, 1, 1] }));
  let expected = 0;
  for (let run = 1; run <= runs; run++) {
    program.run({ add: run, rounds: 1024 });
    expected = Math.fround(expected * 0.5 + run * 1024);
  }
  assert.equal((await gpu.readF32(y))[0], expected);
});

Deno.test("Program.dispatch() refuses names that the shader does not declare", () => {
  const program = new Program<Live>(gpu, "test");
  const tensor = gpu.tensor("x", [4]);
  const launch = (live: Live) => ({ params: live, workgroups: [1, 1, 1] as const });
  assert.throws(() => program.dispatch(AFFINE, { x: tensor }, launch), /affine binds x,y; given: x\./);
  assert.throws(
    () => program.dispatch(AFFINE, { x: tensor, y: tensor, z: tensor }, launch),
    /affine binds x,y; given: x,y,z\./,
  );
});

/** y[i] = b[i] by the loader of a format. */
const loads = (dtype: keyof typeof STORAGE) => ({
  name: "loads",
  source: `
@group(0) @binding(0) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(4)
fn main(@builtin(local_invocation_index) i: u32) {
  y[i] = load_b1(i);
}`,
  preludes: [STORAGE[dtype]],
  constants: { ALIGNED: 1 },
});

Deno.test("Program.dispatch() refuses a tensor whose elements are not those that the shader declares", async () => {
  const dtypes = Object.keys(STORAGE) as (keyof typeof STORAGE)[];
  const tensors = dtypes.map((dtype) => gpu.tensor(dtype, [1, 32], dtype));
  const program = new Program(gpu, "test");
  const one = () => ({ params: { count: 1, scale: 1, shift: 0 }, invocations: 4 });
  const y = gpu.tensor("y", [32]);
  for (const x of tensors) {
    const bind = () => program.dispatch(AFFINE, { x, y }, one);
    if (x.dtype === "f32") bind();
    else assert.throws(bind, new TypeError(`affine binds x of f32; ${x.name} is ${x.dtype}.`));
    for (const dtype of dtypes.filter((dtype) => STORAGE[dtype].loader !== null)) {
      const load = () => program.dispatch(defineKernel(loads(dtype)), { y, b: x }, one);
      if (x.dtype === dtype) load();
      else assert.throws(load, new TypeError(`loads binds b of ${dtype}; ${x.name} is ${x.dtype}.`));
    }
  }
  assert.throws(() => defineKernel(loads("u32")), /loads: nothing loads from u32/);
  program.run({});
  await gpu.settle();
});

Deno.test("Program covers the invocations of a dispatch with workgroups of the kernel's size", async () => {
  const count = 64 * 65_535 + 65; // folded over two rows of workgroups
  const kernel = defineKernel({
    name: "mark",
    source: `
struct Params { count: u32 }
@group(0) @binding(0) var<storage, read> params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<u32>;
@compute @workgroup_size($(WIDE), 4)
fn main(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) local: u32) {
  let at = (group.y * groups.x + group.x) * $(4 * WIDE)u + local;
  if (at < params.count) {
    y[at] = 1u;
  }
}`,
    constants: { WIDE: 16 },
  });
  const y = gpu.tensor("y", [count + 64], "u32");
  const program = new Program<{ count: number }>(gpu, "test");
  program.dispatch(kernel, { y }, (live) => ({ params: live, invocations: live.count }));
  program.run({ count });
  const [marks] = await gpu.read(y);
  assert.equal(marks!.lastIndexOf(1), count - 1);
  assert.equal(marks!.indexOf(0), count);
  gpu.free(y);
});

Deno.test("Program.run() refuses a missing parameter, and goes on when it is there", async () => {
  const { y, program } = affine([1, 2]);
  program.run({ count: 2, scale: 1, shift: 0 });
  const missing = { count: 1, scale: 2 } as unknown as Live;
  assert.throws(() => program.run(missing), /affine needs the parameter shift\./);
  // numbers of the refused run must not pass for sent ones
  program.run({ count: 1, scale: 2, shift: 0 });
  assert.deepEqual([...await gpu.readF32(y)], [2, 2]);
});

Deno.test("Program skips dispatches without workgroups", async () => {
  const { y, program } = affine([1, 2]);
  program.run({ count: 0, scale: 1, shift: 0 });
  assert.deepEqual([...await gpu.readF32(y)], [0, 0]);
});

Deno.test("Program.dispatches() lists what a run would dispatch", () => {
  const { program } = affine([1, 2]);
  const params = { count: 2, scale: 3, shift: 1 };
  assert.deepEqual(program.dispatches(params), [{ kernel: "affine", params }]);
  assert.deepEqual(program.dispatches({ ...params, count: 0 }), []);
});

Deno.test("Program.profile() runs, with a time for every dispatch", async () => {
  const { x, y, program } = affine([1, 2]);
  program.clear(x);
  program.dispatch(AFFINE, { x, y }, (live) => ({ params: live, workgroups: [1, 1, 1] }));
  const params = { count: 2, scale: 3, shift: 1 };
  const times = await program.profile(params);
  assert.deepEqual(times.map(({ kernel }) => kernel), ["affine", "affine"]);
  assert.deepEqual(times[0]!.params, params);
  for (const { milliseconds } of times) assert.ok(milliseconds >= 0);
  assert.deepEqual([...await gpu.readF32(y)], [1, 1]);
});

Deno.test("Program keeps commands in order, clears between dispatches included", async () => {
  const y = gpu.tensor("y", [5]);
  gpu.write(y, Float32Array.of(1, 2, 3, 4, 5));
  const program = new Program(gpu, "test");
  const once = () => ({ params: {}, workgroups: [1, 1, 1] as const });
  program.dispatch(COUNT, { y }, once);
  program.clear(y);
  program.dispatch(COUNT, { y }, once);
  program.dispatch(COUNT, { y }, once);
  program.run({});
  assert.deepEqual([...await gpu.readF32(y)], [2, 0, 0, 0, 0]);
  program.run({});
  assert.deepEqual([...await gpu.readF32(y)], [2, 0, 0, 0, 0]);
});

Deno.test("Program.clear() zeroes a view and nothing else", async () => {
  const whole = gpu.upload("whole", [3, 64], new Float32Array(192).fill(1));
  const program = new Program(gpu, "test");
  program.clear(rowsOf(whole, 1, 1));
  program.run({});
  const expected = new Float32Array(192).fill(1).fill(0, 64, 128);
  assert.deepEqual(await gpu.readF32(whole), expected);
});

Deno.test("Program takes commands after a run", async () => {
  const y = gpu.tensor("y", [1]);
  const program = new Program(gpu, "test");
  const once = () => ({ params: {}, workgroups: [1, 1, 1] as const });
  program.dispatch(COUNT, { y }, once);
  program.run({});
  program.dispatch(COUNT, { y }, once);
  program.run({});
  assert.equal((await gpu.readF32(y))[0], 3);
});

Deno.test("Program accounts its parameters and gives them back", () => {
  const { x, y, program } = affine([1]);
  const before = gpu.memory.bytes;
  program.run({ count: 1, scale: 1, shift: 1 });
  assert.ok(gpu.memory.bytes > before);
  program.free();
  assert.equal(gpu.memory.bytes, before);
  program.run({ count: 1, scale: 1, shift: 1 }); // prepares itself again
  program.dispatch(AFFINE, { x, y }, (live) => ({ params: live, workgroups: [1, 1, 1] }));
  program.clear(y);
  program.run({ count: 1, scale: 1, shift: 1 });
  program.free();
  assert.equal(gpu.memory.bytes, before);
});

Deno.test("Program.scratch() is one tensor for all programs, in the account while one of them is prepared", async () => {
  const [x, y] = [gpu.upload("x", [2], Float32Array.of(3, 4)), gpu.tensor("y", [2])];
  const programs = [10, 100].map((scale) => {
    const program = new Program<Live>(gpu, "test");
    const aside = program.scratch("aside", 8);
    assert.equal(program.scratch("aside", 8), aside);
    program.dispatch(AFFINE, { x, y: aside }, (live) => ({ params: { ...live, scale }, invocations: 2 }));
    program.dispatch(AFFINE, { x: aside, y }, (live) => ({ params: live, invocations: 2 }));
    return program;
  });
  const held = () => gpu.memory.byName()["scratch.aside"];
  const live = { count: 2, scale: 1, shift: 0 };
  assert.equal(held(), undefined);
  for (const [i, program] of [...programs, ...programs].entries()) {
    program.run(live);
    assert.deepEqual([...await gpu.readF32(y)], i % 2 === 0 ? [30, 40] : [300, 400]);
    assert.equal(held(), 32);
    if (i === 1) programs[0]!.free();
  }
  for (const program of programs) program.free();
  assert.equal(held(), undefined);
  gpu.free(x, y);
});

Deno.test("Program frees what it took where there is no room for its scratch", async () => {
  const own = await Gpu.open({ device: "auto", memoryLimitBytes: 1024 });
  const program = new Program<Live>(own, "test");
  const aside = program.scratch("aside", 1024);
  const x = own.tensor("x", [4]);
  program.dispatch(AFFINE, { x, y: aside }, (live) => ({ params: live, invocations: 4 }));
  assert.throws(() => program.run({ count: 4, scale: 1, shift: 0 }), GpuMemoryError);
  own.free(x);
  assert.equal(own.memory.bytes, 0);
  own.close();
});

Deno.test("Program binds views of one buffer", async () => {
  const x = gpu.upload("x", [2, 64], Float32Array.from({ length: 128 }, (_, i) => i));
  const y = gpu.tensor("y", [3, 64]);
  const program = new Program<Live>(gpu, "test");
  program.dispatch(AFFINE, { x: rowsOf(x, 1, 1), y: rowsOf(y, 2, 1) }, (live) => ({
    params: live,
    workgroups: [1, 1, 1],
  }));
  program.run({ count: 64, scale: 1, shift: 100 });
  const expected = new Float32Array(192).map((_, i) => i < 128 ? 0 : 100 + 64 + i - 128);
  assert.deepEqual(await gpu.readF32(y), expected);
});

Deno.test("fold() covers the count within the limit of a dimension, with few to spare", () => {
  for (const count of [0, 1, 65_535, 65_536, 100_000, 65_535 * 7 + 1, 2 ** 31]) {
    const [x, y, z] = fold(count);
    assert.ok(x <= 65_535 && y <= 65_535 && z === 1, `${count}`);
    assert.ok(x * y >= count && x * y - count < y, `${count}`);
  }
});
