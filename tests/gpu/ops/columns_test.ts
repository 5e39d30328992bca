import assert from "node:assert/strict";
import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { recordCopyColumns } from "../../../src/gpu/ops/columns.ts";
import { random } from "../../helpers/random.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

Deno.test("recordCopyColumns() takes columns out of a matrix, and puts them back, and touches no others", async () => {
  for (const rows of [1, 7, 257]) {
    for (const widths of [[1], [3, 1, 5], [64, 8, 8], [61, 13]]) {
      const whole = widths.reduce((sum, width) => sum + width, 0);
      const values = random(rows * whole).normals(rows * whole);
      const joined = input(gpu, values, whole);
      const parts = widths.map((width) => output(gpu, rows, width));
      const again = output(gpu, rows, whole);
      const program = new Program<{ rows: number }>(gpu, "test");
      let first = 0;
      for (const [i, width] of widths.entries()) {
        recordCopyColumns(program, { x: joined, y: parts[i]! }, {
          x_first: first,
          columns: width,
          rows: (live) => live.rows,
        });
        recordCopyColumns(program, { x: parts[i]!, y: again }, {
          y_first: first,
          columns: width,
          rows: (live) => live.rows,
        });
        first += width;
      }
      program.run({ rows });
      const [back, ...taken] = await readLive(gpu, again, ...parts);
      assert.deepEqual(back, values);
      first = 0;
      for (const [i, width] of widths.entries()) {
        const start = first;
        const expected = taken[i]!.map((_, at) =>
          values[Math.floor(at / width) * whole + start + at % width]!
        );
        assert.deepEqual(taken[i], expected);
        first += width;
      }
    }
  }
});
