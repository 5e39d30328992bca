import assert from "node:assert/strict";
import { Gpu, Program } from "../../../src/gpu/mod.ts";
import { KNOWN, recordGatherKnownRows, recordScatterRows } from "../../../src/gpu/ops/known_rows.ts";
import { random } from "../../helpers/random.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

Deno.test("recordGatherKnownRows() takes rows of one tensor or the other", async () => {
  for (const [tokens, stored, rows, columns] of [[1, 1, 2, 1], [7, 3, 13, 5], [101, 40, 259, 67]] as const) {
    const source = random(rows);
    const [x, known] = [source.normals(tokens * columns), source.normals(stored * columns)];
    const sources = Uint32Array.from(
      { length: rows },
      (_, r) => r % 2 === 0 ? source.integer(tokens) : KNOWN + source.integer(stored),
    );
    const tensors = {
      sources: input(gpu, sources, 1),
      x: input(gpu, x, columns),
      known: input(gpu, known, columns),
      y: output(gpu, rows, columns),
    };
    const program = new Program<{ count: number }>(gpu, "test");
    recordGatherKnownRows(program, tensors, { rows: ({ count }) => count });
    program.run({ count: rows });
    const [y] = await readLive(gpu, tensors.y);
    const expected = [...sources].flatMap((at) => {
      const [from, row] = at < KNOWN ? [x, at] : [known, at - KNOWN];
      return [...from.subarray(row * columns, (row + 1) * columns)];
    });
    assert.deepEqual([...y!], expected);
    gpu.free(...Object.values(tensors));
  }
});

Deno.test("recordScatterRows() writes the rows that it is told to, and no other", async () => {
  const [tokens, stored, columns] = [31, 50, 67];
  const source = random(1);
  const [x, before] = [source.normals(tokens * columns), source.normals(stored * columns)];
  const moves = [[30, 4], [0, 49], [7, 5], [7, 0]];
  const tensors = {
    moves: input(gpu, Uint32Array.from(moves.flat()), 2),
    x: input(gpu, x, columns),
    y: output(gpu, stored, columns, before),
  };
  const program = new Program<{ count: number }>(gpu, "test");
  recordScatterRows(program, tensors, { rows: ({ count }) => count });
  program.run({ count: 0 });
  assert.deepEqual((await readLive(gpu, tensors.y))[0], before);
  program.run({ count: moves.length });
  const expected = before.slice();
  for (const [from, to] of moves) {
    expected.set(x.subarray(from! * columns, (from! + 1) * columns), to! * columns);
  }
  assert.deepEqual((await readLive(gpu, tensors.y))[0], expected);
  gpu.free(...Object.values(tensors));
});
