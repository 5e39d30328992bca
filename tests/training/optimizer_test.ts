import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Gpu, rowsOf } from "../../src/gpu/mod.ts";
import { type ParameterSpec, TrainedParameters } from "../../src/model/parameters.ts";
import { type AdamwSettings, Optimizer } from "../../src/training/optimizer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { random } from "../helpers/random.ts";
import { adamw, type AdamWState, clipGradients } from "../reference/cpu.ts";
import { VALUES } from "../reference/values.ts";

const SETTINGS: AdamwSettings = {
  adam_beta1: 0.9,
  adam_beta2: 0.999,
  adam_epsilon: 1e-8,
  weight_decay: 0.1,
  max_grad_norm: 1,
};

/** One device whose tensors hold at most 20,000 numbers, so that parameters take several segments; one without. */
const small = await Gpu.open({ device: "auto", policy: { row_lanes: 1 }, maxTensorBytes: 80_000 });
const wide = await Gpu.open({ device: "auto", policy: { row_lanes: 64 } });

const SPECS: readonly ParameterSpec[] = [
  { name: "a", shape: [37, 41], decay: true },
  { name: "norm", shape: [41], decay: false },
  { name: "b", shape: [19_937], decay: true },
  { name: "c", shape: [3], decay: true },
  { name: "d", shape: [129, 67], decay: true },
];

function count({ shape }: ParameterSpec): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** Parameters, moments and their reference, all from one seed. */
function setUp(gpu: Gpu, settings: AdamwSettings) {
  const trained = new TrainedParameters(gpu, SPECS);
  const source = random(11);
  const expected: AdamWState[] = SPECS.map((spec) => ({
    parameter: Float64Array.from(source.normals(count(spec))),
    first: new Float64Array(count(spec)),
    second: new Float64Array(count(spec)),
  }));
  SPECS.forEach(({ name }, i) =>
    gpu.write(trained.get(name).value, Float32Array.from(expected[i]!.parameter))
  );
  const optimizer = new Optimizer(gpu, trained.segments, settings);
  return { trained, optimizer, expected, source };
}

for (const gpu of [small, wide]) {
  for (const max_grad_norm of [0, 1, 1e6]) {
    const settings = { ...SETTINGS, max_grad_norm };
    Deno.test(`Optimizer follows float64 over five steps, norm at most ${max_grad_norm}, ${gpu.policy.row_lanes} lanes`, async () => {
      const { trained, optimizer, expected, source } = setUp(gpu, settings);
      assert.equal(trained.segments.length, gpu === small ? 4 : 2);
      for (let step = 1; step <= 5; step++) {
        const learning_rate = 0.01 / step;
        const gradients = SPECS.map((spec) => source.normals(count(spec), step === 3 ? 1e-4 : 1));
        SPECS.forEach(({ name }, i) => gpu.write(trained.get(name).gradient!, gradients[i]!));
        optimizer.update({ step, learning_rate });

        const { norm, clipped } = clipGradients(gradients, max_grad_norm || Infinity);
        SPECS.forEach(({ decay }, i) =>
          expected[i] = adamw(expected[i]!, clipped[i]!, {
            learningRate: learning_rate,
            beta1: settings.adam_beta1,
            beta2: settings.adam_beta2,
            epsilon: settings.adam_epsilon,
            weightDecay: decay ? settings.weight_decay : 0,
            step,
          })
        );
        assertClose([(await gpu.readF32(optimizer.clip))[1]!], [norm], {
          rtol: 1e-5,
          name: `norm of step ${step}`,
        });
        for (const [i, { name }] of SPECS.entries()) {
          const value = await gpu.readF32(trained.get(name).value);
          assertClose(value, expected[i]!.parameter, { rtol: 1e-6, name: `${name} after step ${step}` });
        }
      }
      optimizer.free();
      trained.free();
      assert.equal(gpu.memory.bytes, 0);
    });
  }
}

Deno.test("Optimizer agrees with torch.optim.AdamW behind clip_grad_norm_", async () => {
  const { settings, max_grad_norm, initial, steps } = JSON.parse(
    await readFile(`${VALUES}/optimizer.json`, "utf8"),
  );
  const specs = initial.map((values: number[], i: number) => ({
    name: `${i}`,
    shape: [values.length],
    decay: true,
  }));
  const trained = new TrainedParameters(wide, specs);
  initial.forEach((values: number[], i: number) =>
    wide.write(trained.get(`${i}`).value, Float32Array.from(values))
  );
  const [adam_beta1, adam_beta2] = settings.betas;
  const { eps: adam_epsilon, weight_decay, lr: learning_rate } = settings;
  const own = { adam_beta1, adam_beta2, adam_epsilon, weight_decay, max_grad_norm };
  const optimizer = new Optimizer(wide, trained.segments, own);
  for (const [done, { gradients, norm, parameters }] of steps.entries()) {
    gradients.forEach((values: number[], i: number) =>
      wide.write(trained.get(`${i}`).gradient!, Float32Array.from(values))
    );
    optimizer.update({ step: done + 1, learning_rate });
    assertClose([(await wide.readF32(optimizer.clip))[1]!], [norm], { rtol: 1e-5 });
    for (const [i, values] of parameters.entries()) {
      assertClose(await wide.readF32(trained.get(`${i}`).value), values, { rtol: 1e-6 });
    }
  }
  optimizer.free();
  trained.free();
});

Deno.test("Optimizer leaves everything as it was where a gradient is not finite", async () => {
  for (const bad of [NaN, Infinity, -Infinity, 1e30]) { // the square of the last overflows
    for (const gpu of [small, wide]) {
      const { trained, optimizer, source } = setUp(gpu, SETTINGS);
      const fill = () => {
        for (const spec of SPECS) gpu.write(trained.get(spec.name).gradient!, source.normals(count(spec)));
      };
      fill();
      optimizer.update({ step: 1, learning_rate: 0.01 });
      const state = () =>
        gpu.read(...trained.segments.flatMap(({ value, mean, variance }) => [value, mean, variance]));
      const before = await state();
      fill();
      gpu.write(trained.get("c").gradient!, Float32Array.of(1, bad, 1));
      optimizer.update({ step: 2, learning_rate: 0.01 });
      assert.deepEqual(await state(), before);
      assert.ok(!Number.isFinite((await gpu.readF32(optimizer.clip))[1]!), "the norm tells");
      fill();
      optimizer.update({ step: 2, learning_rate: 0.01 });
      const after = await state();
      assert.ok(after.every((tensor, i) => tensor.some((value, at) => value !== before[i]![at])));
      assert.ok(after.every((tensor) => tensor.every((value) => Number.isFinite(value))));
      const [factor, norm] = await gpu.readF32(optimizer.clip);
      assert.ok(factor! > 0 && !Number.isFinite(norm), "who looks every few steps sees what was left out");
      optimizer.free();
      trained.free();
    }
  }
});

Deno.test("Optimizer.zeroGradients() zeroes every segment", async () => {
  const { trained, optimizer } = setUp(small, SETTINGS);
  for (const spec of SPECS) {
    small.write(trained.get(spec.name).gradient!, new Float32Array(count(spec)).fill(5));
  }
  optimizer.zeroGradients();
  for (const gradient of await small.read(...trained.segments.map(({ gradient }) => gradient))) {
    assert.ok(gradient.every((value) => value === 0));
  }
  optimizer.free();
  trained.free();
});

Deno.test("TrainedParameters keeps the gaps between parameters zero", async () => {
  const { trained, optimizer, source } = setUp(wide, SETTINGS);
  for (const spec of SPECS) wide.write(trained.get(spec.name).gradient!, source.normals(count(spec)));
  optimizer.update({ step: 1, learning_rate: 0.01 });
  const [first] = trained.segments;
  const value = await wide.readF32(first!.value);
  const a = count(SPECS[0]!);
  const gap = value.subarray(a, Math.ceil(a / 64) * 64);
  assert.ok(gap.length > 0 && gap.every((element) => element === 0));
  optimizer.free();
  trained.free();
});

Deno.test("TrainedParameters.get() refuses a name that is not trained", () => {
  const trained = new TrainedParameters(wide, SPECS);
  assert.throws(() => trained.get("lm_head.weight"), /lm_head.weight is not among the trained parameters/);
  trained.free();
});

Deno.test("Optimizer takes the norm of 17 million gradients and updates them all", async () => {
  const gpu = await Gpu.open({ device: "auto", policy: { row_lanes: 1 } });
  const n = 4096 * 4096 + 12_345; // two levels of sums, and workgroups past 65,535
  const trained = new TrainedParameters(gpu, [{ name: "w", shape: [n], decay: true }]);
  const gradient = new Float32Array(n).map((_, i) => (Math.imul(i + 1, 0x9e3779b1) >> 8) / 2 ** 23);
  gpu.write(trained.get("w").gradient!, gradient);
  const settings = { ...SETTINGS, max_grad_norm: 0, adam_epsilon: 1 };
  const optimizer = new Optimizer(gpu, trained.segments, settings);
  optimizer.update({ step: 1, learning_rate: 1 });
  let squares = 0;
  for (const g of gradient) squares += g * g;
  assertClose([(await gpu.readF32(optimizer.clip))[1]!], [Math.sqrt(squares)], { rtol: 1e-5 });
  const { value } = trained.get("w");
  for (const first of [0, 65_535 * 256 - 50, n - 100]) {
    const actual = await gpu.readF32(rowsOf(value, first, 100));
    const expected = gradient.slice(first, first + 100).map((g) => -g / (Math.abs(g) + 1));
    assertClose(actual, expected, { rtol: 1e-5, relativeTo: "element", name: `elements from ${first}` });
  }
  optimizer.free();
  trained.free();
  gpu.close();
});
