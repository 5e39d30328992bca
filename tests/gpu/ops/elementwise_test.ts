import assert from "node:assert/strict";
import { Gpu, Program, type Tensor } from "../../../src/gpu/mod.ts";
import {
  recordAdd,
  recordCopy,
  recordDropout,
  recordGatedActivation,
  recordGatedActivationGrad,
  recordGelu,
  recordGeluGrad,
} from "../../../src/gpu/ops/elementwise.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { ACTIVATIONS, gatedActivation, gatedActivationGrad } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

type Live = { count: number; dropout_seed: number };
const count = ({ count }: Live) => count;

const COUNTS = [1, 63, 64, 257, 1009, 70_001, 70_004];

/** Columns of n elements: 4 where that fits, which kernels read as one vec4, else 1. */
function columnsOf(n: number): 1 | 4 {
  return n % 4 === 0 ? 4 : 1;
}

function read(values: Float32Array): Tensor {
  return input(gpu, values, columnsOf(values.length));
}

function written(n: number, before?: Float32Array): Tensor {
  return output(gpu, n / columnsOf(n), columnsOf(n), before);
}

Deno.test("recordCopy() copies the live elements and no more", async () => {
  for (const n of COUNTS) {
    const values = random(n).normals(n);
    const [x, y] = [read(values), written(n)];
    const program = new Program<Live>(gpu, "test");
    recordCopy(program, { x, y }, { count });
    program.run({ count: n, dropout_seed: 0 });
    assert.deepEqual((await readLive(gpu, y))[0], values);
  }
});

Deno.test("recordAdd() adds the live elements and no more", async () => {
  for (const n of COUNTS) {
    const { normals } = random(n);
    const [values, before] = [normals(n), normals(n)];
    const [x, y] = [read(values), written(n, before)];
    const program = new Program<Live>(gpu, "test");
    recordAdd(program, { x, y }, { count });
    program.run({ count: n, dropout_seed: 0 });
    assert.deepEqual((await readLive(gpu, y))[0], before.map((value, i) => value + values[i]!));
  }
});

Deno.test("recordCopy() goes on where workgroups no longer fit one dimension", async () => {
  const n = 65_535 * 256 + 1000;
  const values = new Float32Array(n).map((_, i) => i - 2 ** 23);
  const [x, y] = [gpu.upload("x", [n], values), gpu.tensor("y", [n])];
  const program = new Program<Live>(gpu, "test");
  recordCopy(program, { x, y }, { count });
  program.run({ count: n, dropout_seed: 0 });
  const copied = await gpu.readF32(y);
  assert.equal(copied.findIndex((value, i) => value !== values[i]), -1);
  gpu.free(x, y);
});

const NEAR = { rtol: 1e-5, atol: 1e-6, relativeTo: "element" } as const;

/** Normal values, of which a few lie where exponentials and cubes overflow. */
function withFar(values: Float32Array): Float32Array {
  [-1e30, -1000, -90, -30, -12, -9, 9, 12, 30, 90, 1000, 1e30].forEach((far, i) => {
    if (i < values.length) values[i] = far;
  });
  return values;
}

for (const activation of ["silu", "gelu_tanh"] as const) {
  Deno.test(`recordGatedActivation() and its gradient agree with float64, far from zero too: ${activation}`, async () => {
    for (const n of COUNTS) {
      const { normals } = random(n);
      const [gate, up, dy] = [withFar(normals(n, 4)), normals(n), normals(n)];
      const tensors = { gate: written(n, gate), up: written(n, up) };
      const [y, again] = [written(n), written(n)];
      const program = new Program<Live>(gpu, "test");
      recordGatedActivation(program, { ...tensors, y }, { activation, count });
      recordGatedActivationGrad(program, { ...tensors, d_y: read(dy), y: again }, { activation, count });
      program.run({ count: n, dropout_seed: 0 });
      const [actual, made, dGate, dUp] = await readLive(gpu, y, again, tensors.gate, tensors.up);
      assert.deepEqual(made, actual);
      const reference = ACTIVATIONS[activation];
      const gradient = gatedActivationGrad(reference, gate, up, dy);
      assertClose(actual!, gatedActivation(reference, gate, up), { ...NEAR, name: `y of ${n}` });
      assertClose(dGate!, gradient.dGate, { ...NEAR, name: `d_gate of ${n}` });
      assertClose(dUp!, gradient.dUp, { ...NEAR, name: `d_up of ${n}` });
    }
  });
}

Deno.test("recordGelu() and its gradient agree with float64, far from zero too", async () => {
  const { value, slope } = ACTIVATIONS.gelu_tanh;
  for (const n of COUNTS) {
    const { normals } = random(n);
    const [values, dy] = [withFar(normals(n, 4)), normals(n)];
    const [x, y, again] = [written(n, values), written(n), written(n)];
    const program = new Program<Live>(gpu, "test");
    recordGelu(program, { x, y }, { count });
    recordGeluGrad(program, { x, d_y: read(dy), y: again }, { count });
    program.run({ count: n, dropout_seed: 0 });
    const [actual, made, d_x] = await readLive(gpu, y, again, x);
    assert.deepEqual(made, actual);
    assertClose(actual!, Float64Array.from(values, value), { ...NEAR, name: `y of ${n}` });
    assertClose(d_x!, Float64Array.from(values, (v, i) => dy[i]! * slope(v)), {
      ...NEAR,
      name: `d_x of ${n}`,
    });
  }
});

/** Dropout of `x`, in a tensor that holds `before`. */
async function dropout(
  x: Float32Array,
  settings: { rate: number; stream?: number; seed?: number; before?: Float32Array },
): Promise<Float32Array> {
  const { rate, stream = 5, seed = 42, before } = settings;
  const y = written(x.length, before);
  const program = new Program<Live>(gpu, "test");
  recordDropout(
    program,
    { x: read(x), y },
    { rate, stream, accumulate: before !== undefined, count },
  );
  program.run({ count: x.length, dropout_seed: seed });
  return (await readLive(gpu, y))[0]!;
}

const N = 100_003;
const ones = new Float32Array(N).fill(1);

/** The share of elements for which `test` holds, minus what is expected, in standard deviations. */
function surprise(
  values: Float32Array,
  test: (value: number, i: number) => boolean,
  expected: number,
): number {
  const share = values.filter(test).length / values.length;
  return Math.abs(share - expected) / Math.sqrt(expected * (1 - expected) / values.length);
}

Deno.test("recordDropout() drops the rate and scales the rest, so that the mean stays", async () => {
  for (const rate of [0.05, 0.3, 0.9]) {
    const y = await dropout(ones, { rate });
    const kept = Math.fround(1 / (1 - Math.fround(rate)));
    assert.ok(y.every((value) => value === 0 || Math.abs(value / kept - 1) < 1e-6), `values at ${rate}`);
    assert.ok(surprise(y, (value) => value === 0, rate) < 4, `rate ${rate}`);
  }
  assert.deepEqual(await dropout(ones, { rate: 0 }), ones);
});

Deno.test("recordDropout() makes the same mask again, and another for another seed, stream or place", async () => {
  const rate = 0.3;
  const y = await dropout(ones, { rate });
  assert.deepEqual(await dropout(ones, { rate }), y);
  assert.deepEqual(await dropout(ones.subarray(0, 1000), { rate }), y.slice(0, 1000));
  const agreement = rate ** 2 + (1 - rate) ** 2;
  for (const other of [{ seed: 43 }, { seed: 42 ^ 1 }, { stream: 6 }, { stream: 0 }]) {
    const z = await dropout(ones, { rate, ...other });
    assert.ok(
      surprise(y, (value, i) => (value === 0) === (z[i] === 0), agreement) < 4,
      JSON.stringify(other),
    );
  }
  for (const distance of [1, 2, 8, 64, 256, 1024]) {
    const pairs = y.subarray(0, N - distance);
    const share = surprise(pairs, (value, i) => (value === 0) === (y[i + distance] === 0), agreement);
    assert.ok(share < 4, `elements ${distance} apart`);
  }
});

Deno.test("recordDropout() accumulates with the mask of the forward, as its gradient does", async () => {
  const rate = 0.4;
  const { normals } = random(3);
  const [x, before] = [normals(N), normals(N)];
  const mask = await dropout(ones, { rate });
  const expected = Float64Array.from(x, (value, i) => before[i]! + value * mask[i]!);
  assertClose(await dropout(x, { rate, before }), expected, { rtol: 1e-6 });
});
