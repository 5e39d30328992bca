import { Program } from "../../../src/gpu/mod.ts";
import { recordRmsNorm, recordRmsNormGrad } from "../../../src/gpu/ops/rms_norm.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { rmsNorm, rmsNormGrad } from "../../reference/cpu.ts";
import { input, openBothLayouts, output, readLive } from "./_tensors.ts";

const layouts = await openBothLayouts();
const EPS = 1e-3;

/** [rows, columns]; the last ones pass the software driver's budget of 65,535 loop iterations. */
const SIZES = [[1, 1], [2, 5], [9, 64], [17, 67], [65, 129], [600, 40], [3, 70_000]] as const;

for (const gpu of layouts) {
  Deno.test(`recordRmsNorm() and its gradient agree with float64, ${gpu.policy.row_lanes} lanes a row`, async () => {
    // more rows than one dispatch sums for the weight: those of tokens times heads
    const cases = [...SIZES, [70_001, 3], [262_147, 2]].map(([rows, columns], i) =>
      [rows!, columns!, i % 2 ? 1 : 0] as const
    );
    for (const [rows, columns, offset] of cases) {
      const { normals } = random(rows);
      const [x, weight, dy, past] = [
        normals(rows * columns, 3),
        normals(columns),
        normals(rows * columns),
        normals(rows * columns),
      ];
      const pastWeight = normals(columns);
      const tensors = {
        x: input(gpu, x, columns),
        weight: gpu.upload("weight", [columns], weight),
        rstd: output(gpu, rows, 1),
      };
      const y = output(gpu, rows, columns);
      const d_y = input(gpu, dy, columns);
      const d_x = output(gpu, rows, columns, past);
      const d_weight = gpu.upload("d_weight", [columns], pastWeight);
      const program = new Program<{ rows: number }>(gpu, "test");
      recordRmsNorm(program, { ...tensors, y }, { eps: EPS, rows: ({ rows }) => rows, offset });
      const outputs = { d_x, d_weight };
      recordRmsNormGrad(program, { ...tensors, d_y, ...outputs }, { rows: ({ rows }) => rows, offset });
      program.run({ rows });

      const [actualY, actualRstd, actualDx] = await readLive(gpu, y, tensors.rstd, d_x);
      const name = `[${rows}, ${columns}] offset ${offset}`;
      const gain = Float64Array.from(weight, (value) => offset + value);
      const expected = rmsNorm(x, gain, columns, EPS);
      assertClose(actualY!, expected.y, { rtol: 1e-5, name: `y ${name}` });
      assertClose(actualRstd!, expected.rstd, { rtol: 1e-5, relativeTo: "element", name: `rstd ${name}` });
      const gradient = rmsNormGrad(x, gain, dy, columns, EPS);
      const dx = gradient.dx.map((value, i) => value + past[i]!);
      const dw = gradient.dw.map((value, i) => value + pastWeight[i]!);
      assertClose(actualDx!, dx, { rtol: 1e-5, name: `d_x ${name}` });
      assertClose(await gpu.readF32(d_weight), dw, { rtol: 1e-5, name: `d_weight ${name}` });
      program.free();
      gpu.free(...Object.values(tensors), y, d_y, d_x, d_weight);
    }
  });

  Deno.test(`recordRmsNormGrad() leaves out a frozen weight, ${gpu.policy.row_lanes} lanes a row`, async () => {
    const [x, weight, dy] = [Float32Array.of(3, 4), Float32Array.of(1, 2), Float32Array.of(1, 1)];
    const tensors = {
      x: input(gpu, x, 2),
      weight: gpu.upload("weight", [2], weight),
      rstd: gpu.upload("rstd", [1], Float32Array.from(rmsNorm(x, weight, 2, EPS).rstd)),
      d_y: input(gpu, dy, 2),
      d_x: output(gpu, 1, 2, new Float32Array(2)),
    };
    const program = new Program(gpu, "test");
    recordRmsNormGrad(program, { ...tensors, d_weight: null }, { rows: () => 1 });
    program.run({});
    const [d_x] = await readLive(gpu, tensors.d_x);
    assertClose(d_x!, rmsNormGrad(x, weight, dy, 2, EPS).dx, { rtol: 1e-5 });
  });
}
