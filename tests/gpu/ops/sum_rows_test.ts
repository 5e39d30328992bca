import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { recordSumRows } from "../../../src/gpu/ops/sum_rows.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { addBiasGrad } from "../../reference/cpu.ts";
import { input } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

/** [rows, columns]; the last one passes the software driver's budget of 65,535 loop iterations. */
const SIZES = [[1, 1], [2, 5], [9, 64], [17, 67], [65, 129], [600, 40], [3, 70_001], [70_001, 3]] as const;

Deno.test("recordSumRows() agrees with float64", async () => {
  for (const [rows, columns] of SIZES) {
    const { normals } = random(rows);
    const [past, dy] = [normals(columns), normals(rows * columns)];
    const d_bias = gpu.upload("d_bias", [columns], past);
    const program = new Program<{ rows: number }>(gpu, "test");
    recordSumRows(program, { x: input(gpu, dy, columns), sums: d_bias }, { rows: ({ rows }) => rows });
    program.run({ rows });
    const expected = addBiasGrad(dy, columns).map((value, i) => value + past[i]!);
    assertClose(await gpu.readF32(d_bias), expected, { rtol: 1e-5, name: `d_bias [${rows}, ${columns}]` });
    program.free();
    gpu.free(d_bias);
  }
});
