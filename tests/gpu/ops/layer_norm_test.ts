import { Program } from "../../../src/gpu/mod.ts";
import { recordLayerNorm, recordLayerNormGrad } from "../../../src/gpu/ops/layer_norm.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { layerNorm, layerNormGrad } from "../../reference/cpu.ts";
import { input, openBothLayouts, output, readLive } from "./_tensors.ts";

const layouts = await openBothLayouts();
const EPS = 1e-3;

/** [rows, columns]; the last ones pass the software driver's budget of 65,535 loop iterations. */
const SIZES = [[1, 1], [2, 5], [9, 64], [17, 67], [65, 129], [600, 40], [3, 70_000], [70_001, 3]] as const;

for (const gpu of layouts) {
  Deno.test(`recordLayerNorm() and its gradient agree with float64, ${gpu.policy.row_lanes} lanes a row`, async () => {
    for (const [rows, columns] of SIZES) {
      const { normals } = random(rows);
      const x = normals(rows * columns, 3).map((value) => value + 4);
      const [weight, bias, dy, past] = [
        normals(columns),
        normals(columns),
        normals(rows * columns),
        normals(rows * columns),
      ];
      const [pastWeight, pastBias] = [normals(columns), normals(columns)];
      const tensors = {
        x: input(gpu, x, columns),
        weight: gpu.upload("weight", [columns], weight),
        moments: output(gpu, rows, 2),
      };
      const forward = { bias: gpu.upload("bias", [columns], bias), y: output(gpu, rows, columns) };
      const gradients = {
        d_y: input(gpu, dy, columns),
        d_x: output(gpu, rows, columns, past),
        d_weight: gpu.upload("d_weight", [columns], pastWeight),
        d_bias: gpu.upload("d_bias", [columns], pastBias),
      };
      const program = new Program<{ rows: number }>(gpu, "test");
      recordLayerNorm(program, { ...tensors, ...forward }, { eps: EPS, rows: ({ rows }) => rows });
      recordLayerNormGrad(program, { ...tensors, ...gradients }, { rows: ({ rows }) => rows });
      program.run({ rows });

      const [y, moments, dX] = await readLive(gpu, forward.y, tensors.moments, gradients.d_x);
      const name = `[${rows}, ${columns}]`;
      const expected = layerNorm(x, weight, bias, columns, EPS);
      assertClose(y!, expected.y, { rtol: 1e-5, name: `y ${name}` });
      const column = (which: number) => moments!.filter((_, i) => i % 2 === which);
      assertClose(column(0), expected.mean, { rtol: 1e-6, name: `mean ${name}` });
      assertClose(column(1), expected.rstd, { rtol: 1e-5, relativeTo: "element", name: `rstd ${name}` });
      const { dx, dw, db } = layerNormGrad(x, weight, dy, columns, EPS);
      const plus = (a: Float64Array, b: Float32Array) => a.map((value, i) => value + b[i]!);
      assertClose(dX!, plus(dx, past), { rtol: 1e-4, name: `d_x ${name}` });
      const [dWeight, dBias] = [gradients.d_weight, gradients.d_bias];
      assertClose(await gpu.readF32(dWeight), plus(dw, pastWeight), { rtol: 1e-4, name: `d_weight ${name}` });
      assertClose(await gpu.readF32(dBias), plus(db, pastBias), { rtol: 1e-5, name: `d_bias ${name}` });
      program.free();
      gpu.free(...[tensors, forward, gradients].flatMap((group) => Object.values(group)));
    }
  });

  Deno.test(`recordLayerNormGrad() leaves out frozen parameters, ${gpu.policy.row_lanes} lanes a row`, async () => {
    const [x, weight, dy] = [Float32Array.of(3, 4), Float32Array.of(1, 2), Float32Array.of(1, 1)];
    const { mean, rstd } = layerNorm(x, weight, [0, 0], 2, EPS);
    const tensors = {
      x: input(gpu, x, 2),
      weight: gpu.upload("weight", [2], weight),
      moments: gpu.upload("moments", [1, 2], Float32Array.of(mean[0]!, rstd[0]!)),
      d_y: input(gpu, dy, 2),
      d_x: output(gpu, 1, 2, new Float32Array(2)),
    };
    const program = new Program(gpu, "test");
    recordLayerNormGrad(program, { ...tensors, d_weight: null, d_bias: null }, { rows: () => 1 });
    program.run({});
    const [d_x] = await readLive(gpu, tensors.d_x);
    assertClose(d_x!, layerNormGrad(x, weight, dy, 2, EPS).dx, { rtol: 1e-4 });
  });
}
