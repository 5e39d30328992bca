import assert from "node:assert/strict";
import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { recordGatherRows, recordGatherRowsGrad } from "../../../src/gpu/ops/gather_rows.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { embedding, embeddingGrad } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

/** Rows by the token they are gathered from. */
function byToken(indices: Uint32Array, tokens: number) {
  const lists = Array.from({ length: tokens }, () => [] as number[]);
  indices.forEach((token, row) => lists[token]!.push(row));
  const token_rows = [0];
  for (const list of lists) token_rows.push(token_rows.at(-1)! + list.length);
  return { token_rows: Uint32Array.from(token_rows), row_list: Uint32Array.from(lists.flat()) };
}

Deno.test("recordGatherRows() and its gradient agree with float64", async () => {
  // the last one passes 65,535 workgroups of the gradient
  for (
    const [tokens, rows, columns] of [[1, 1, 1], [7, 3, 5], [13, 70, 67], [259, 101, 40], [
      1031,
      9,
      4099,
    ]] as const
  ) {
    const source = random(tokens);
    const indices = source.integers(rows, tokens);
    const [x, dy] = [source.normals(tokens * columns), source.normals(rows * columns)];
    const lists = byToken(indices, tokens);
    const tensors = {
      indices: input(gpu, indices, 1),
      x: input(gpu, x, columns),
      d_y: input(gpu, dy, columns),
      token_rows: input(gpu, lists.token_rows, 1),
      row_list: input(gpu, lists.row_list, 1),
      y: output(gpu, rows, columns),
      d_x: output(gpu, tokens, columns),
    };
    const { token_rows, row_list, d_y, d_x } = tensors;
    const program = new Program<{ tokens: number; rows: number }>(gpu, "test");
    recordGatherRows(program, { indices: tensors.indices, x: tensors.x, y: tensors.y });
    recordGatherRowsGrad(program, { token_rows, row_list, d_y, d_x });
    program.run({ tokens, rows });
    const [y, dx] = await readLive(gpu, tensors.y, d_x);
    const name = `[${tokens}, ${columns}] by ${rows} rows`;
    assert.deepEqual(y, Float32Array.from(embedding(x, indices, columns)), name);
    assertClose(dx!, embeddingGrad(dy, indices, tokens, columns), { rtol: 1e-6, name });
    gpu.free(...Object.values(tensors));
  }
});
