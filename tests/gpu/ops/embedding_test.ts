import assert from "node:assert/strict";
import { Gpu, Program, type Tensor, type TensorDtype } from "../../../src/gpu/mod.ts";
import { recordAddRows, recordEmbedding, recordEmbeddingGrad } from "../../../src/gpu/ops/embedding.ts";
import { fromF32, toF32 } from "../../../src/model/dtype.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { random } from "../../helpers/random.ts";
import { embedding, embeddingGrad } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

const gpu = await Gpu.open({ device: "auto" });

/** Rows of a table as the checkpoint's type has them. */
function table(values: Float32Array, columns: number, dtype: TensorDtype): Tensor {
  const tensor = gpu.tensor("table", [values.length / columns, columns], dtype);
  gpu.write(tensor, dtype === "f32" ? values : fromF32(values, dtype === "bf16" ? "BF16" : "F16"));
  return tensor;
}

/** Runs [first, end) that cut `rows`. */
function runsOf(rows: number, cuts: readonly number[]): [number, number][] {
  const bounds = [0, ...cuts.filter((cut) => cut < rows), rows];
  return bounds.slice(1).map((end, i) => [bounds[i]!, end]);
}

interface Case {
  readonly tokens: number;
  readonly rows: number;
  readonly columns: number;
  readonly cuts: readonly number[];
  readonly scale?: number;
}

const CASES: readonly Case[] = [
  { tokens: 1, rows: 1, columns: 1, cuts: [] },
  { tokens: 13, rows: 101, columns: 7, cuts: [37, 64] },
  { tokens: 259, rows: 97, columns: 24, cuts: [64], scale: Math.fround(Math.sqrt(24)) },
  { tokens: 70, rows: 31, columns: 131, cuts: [1, 30] },
];

Deno.test("recordEmbedding() reads tables of every storage, in one run or several", async () => {
  for (const { tokens, rows, columns, cuts, scale } of CASES) {
    for (const dtype of ["f32", "bf16", "f16"] as const) {
      const source = random(tokens);
      const exact = source.normals(rows * columns);
      const stored = dtype === "bf16" ? "BF16" : "F16";
      const values = dtype === "f32" ? exact : toF32(fromF32(exact, stored), stored);
      const ids = source.integers(tokens, rows);
      for (const run of [[], cuts]) {
        const x = output(gpu, tokens, columns);
        const token_ids = input(gpu, ids, 1);
        const program = new Program<{ tokens: number }>(gpu, "test");
        for (const [first, end] of runsOf(rows, run)) {
          const part = table(values.slice(first * columns, end * columns), columns, dtype);
          recordEmbedding(program, { token_ids, table: part, x }, {
            first_row: first,
            ...scale && { scale },
          });
        }
        program.run({ tokens });
        const [actual] = await readLive(gpu, x);
        assert.deepEqual(
          actual,
          Float32Array.from(embedding(values, ids, columns), (value) => value * (scale ?? 1)),
          `${dtype} ${columns} ${run}`,
        );
      }
    }
  }
});

Deno.test("recordAddRows() adds each token's row to what is there, and recordEmbeddingGrad() is its gradient", async () => {
  for (const { tokens, rows, columns, cuts } of CASES) {
    const source = random(tokens);
    const values = source.normals(rows * columns);
    const before = source.normals(tokens * columns);
    const dx = source.normals(tokens * columns);
    const positions = source.integers(tokens, rows);
    const x = output(gpu, tokens, columns, before);
    const indices = input(gpu, positions, 1);
    const { distinct, ...lists } = byId(positions);
    const tensors = {
      ids: input(gpu, lists.ids, 1),
      id_offsets: input(gpu, lists.id_offsets, 1),
      id_tokens: input(gpu, lists.id_tokens, 1),
      d_x: input(gpu, dx, columns),
    };
    const d_table = gpu.upload("d_table", [rows, columns], new Float32Array(rows * columns));
    const program = new Program<{ tokens: number; distinct: number; places: number }>(gpu, "test");
    for (const [first, end] of runsOf(rows, cuts)) {
      const part = table(values.slice(first * columns, end * columns), columns, "f32");
      recordAddRows(program, { indices, table: part, x }, { first_row: first });
    }
    recordEmbeddingGrad(program, { ...tensors, d_table }, { distinct: ({ places }) => places });
    program.run({ tokens, distinct: 0, places: distinct });
    const [actual] = await readLive(gpu, x);
    const expected = embedding(values, positions, columns).map((value, i) => before[i]! + value);
    assert.deepEqual(actual, Float32Array.from(expected));
    const gradient = embeddingGrad(dx, positions, rows, columns);
    assertClose(await gpu.readF32(d_table), gradient, { rtol: 1e-5 });
  }
});

/** Distinct ids with their tokens, in the order in which the ids first appear. */
function byId(ids: Uint32Array) {
  const tokens = Map.groupBy(ids.keys(), (token) => ids[token]!);
  const offsets = [0];
  for (const list of tokens.values()) offsets.push(offsets.at(-1)! + list.length);
  return {
    distinct: tokens.size,
    ids: Uint32Array.from(tokens.keys()),
    id_offsets: Uint32Array.from(offsets),
    id_tokens: Uint32Array.from([...tokens.values()].flat()),
  };
}

Deno.test("recordEmbeddingGrad() adds each token's gradient to its row, in one run or several", async () => {
  const large: Case[] = [
    // one id in more tokens than the software driver's loop budget of 65,535
    { tokens: 70_001, rows: 1, columns: 2, cuts: [] },
    // more than 65,535 workgroups
    { tokens: 150, rows: 160, columns: 45_007, cuts: [] },
  ];
  for (const { tokens, rows, columns, cuts, scale = 1 } of [...CASES, ...large]) {
    const source = random(rows);
    const ids = source.integers(tokens, rows);
    const dx = source.normals(tokens * columns);
    const past = source.normals(rows * columns);
    const { distinct, ...lists } = byId(ids);
    const expected = embeddingGrad(dx, ids, rows, columns).map((value, i) => scale * value + past[i]!);
    for (const run of cuts.length > 0 ? [[], cuts] : [cuts]) {
      const tensors = {
        ids: input(gpu, lists.ids, 1),
        id_offsets: input(gpu, lists.id_offsets, 1),
        id_tokens: input(gpu, lists.id_tokens, 1),
        d_x: input(gpu, dx, columns),
      };
      const program = new Program<{ distinct: number }>(gpu, "test");
      const parts = runsOf(rows, run).map(([first, end]) => {
        const d_table = gpu.upload(
          "d_table",
          [end - first, columns],
          past.slice(first * columns, end * columns),
        );
        recordEmbeddingGrad(program, { ...tensors, d_table }, { first_row: first, scale });
        return d_table;
      });
      program.run({ distinct });
      for (const [i, [first, end]] of runsOf(rows, run).entries()) {
        assertClose(await gpu.readF32(parts[i]!), expected.subarray(first * columns, end * columns), {
          rtol: 1e-5,
          name: `${tokens} tokens, ${rows} rows, runs ${run}, from ${first}`,
        });
      }
      gpu.free(...parts, ...Object.values(tensors));
    }
  }
});
