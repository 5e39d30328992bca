import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { recordAddBias, recordBiasGrad } from "../../../src/gpu/ops/bias.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { addBias, addBiasGrad } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

/** [rows, columns]; the last one passes the software driver's budget of 65,535 loop iterations. */
const SIZES = [[1, 1], [2, 5], [9, 64], [17, 67], [65, 129], [600, 40], [3, 70_001], [70_001, 3]] as const;

Deno.test("recordAddBias() and recordBiasGrad() agree with float64", async () => {
  for (const [rows, columns] of SIZES) {
    const { normals } = random(rows);
    const [before, past, values, dy] = [
      normals(rows * columns),
      normals(columns),
      normals(columns),
      normals(rows * columns),
    ];
    const y = output(gpu, rows, columns, before);
    const bias = gpu.upload("bias", [columns], values);
    const d_bias = gpu.upload("d_bias", [columns], past);
    const program = new Program<{ rows: number }>(gpu, "test");
    recordAddBias(program, { y, bias }, ({ rows }) => rows);
    recordBiasGrad(program, { d_y: input(gpu, dy, columns), d_bias }, ({ rows }) => rows);
    program.run({ rows });
    const [actual] = await readLive(gpu, y);
    const name = `[${rows}, ${columns}]`;
    assertClose(actual!, addBias(before, values), { rtol: 1e-6, name: `y ${name}` });
    const expected = addBiasGrad(dy, columns).map((value, i) => value + past[i]!);
    assertClose(await gpu.readF32(d_bias), expected, { rtol: 1e-5, name: `d_bias ${name}` });
    program.free();
    gpu.free(y, bias, d_bias);
  }
});
