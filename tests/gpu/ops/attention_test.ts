import assert from "node:assert/strict";
import { Gpu, Program, type Tensor } from "../../../src/gpu/mod.ts";
import {
  type AttentionGradTensors,
  type AttentionShape,
  recordAttention,
  recordAttentionGrad,
} from "../../../src/gpu/ops/attention.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { type GroupLengths, type PackedExample, packedExample } from "../../helpers/packed_example.ts";
import { random } from "../../helpers/random.ts";
import { attention, attentionGrad } from "../../reference/cpu.ts";

const gpu = await Gpu.open({ device: "auto" });

interface Case {
  readonly groups: readonly GroupLengths[];
  readonly heads: number;
  readonly kv_heads: number;
  readonly head_dim: number;
  readonly window?: number;
}

/** What outputs hold before a run, to see which rows were written. */
const UNTOUCHED = 777;
const SPARE_ROWS = 3;

/** Tensors with a few rows past the live tokens; those of the inputs hold NaN. */
function setUp({ heads, kv_heads, head_dim, window }: Case, packed: PackedExample, seed: number) {
  const { tokens } = packed;
  const { normals } = random(seed);
  const rows = tokens + SPARE_ROWS;
  const data = {
    q: normals(tokens * heads * head_dim),
    k: normals(tokens * kv_heads * head_dim),
    v: normals(tokens * kv_heads * head_dim),
    d_o: normals(tokens * heads * head_dim),
  };
  const made: Tensor[] = [];
  const upload = (name: string, columns: number, values: Float32Array | Uint32Array | null) => {
    const filled = values instanceof Uint32Array
      ? new Uint32Array(rows * columns).fill(4_000_000_000)
      : new Float32Array(rows * columns).fill(values ? NaN : UNTOUCHED);
    if (values) filled.set(values);
    made.push(gpu.upload(name, [rows, columns], filled));
    return made.at(-1)!;
  };
  const t: AttentionGradTensors = {
    q: upload("q", heads * head_dim, data.q),
    k: upload("k", kv_heads * head_dim, data.k),
    v: upload("v", kv_heads * head_dim, data.v),
    d_o: upload("d_o", heads * head_dim, data.d_o),
    spans: upload("spans", 4, packed.spans),
    positions: upload("positions", 1, packed.positions),
    o: upload("o", heads * head_dim, null),
    lse: upload("lse", heads, null),
    delta: upload("delta", heads, null),
    d_q: upload("d_q", heads * head_dim, null),
    d_k: upload("d_k", kv_heads * head_dim, null),
    d_v: upload("d_v", kv_heads * head_dim, null),
  };
  const scale = 1 / Math.sqrt(head_dim);
  const shape: AttentionShape = { heads, kv_heads, head_dim, scale, window: window ?? null };
  const program = new Program<{ tokens: number }>(gpu, "attention");
  recordAttention(gpu, program, shape, t);
  recordAttentionGrad(gpu, program, shape, t);
  const run = async () => {
    program.run({ tokens });
    const outputs = ["o", "lse", "d_q", "d_k", "d_v"] as const;
    const values = await gpu.read(...outputs.map((name) => t[name]));
    return Object.fromEntries(outputs.map((name, i) => {
      const columns = t[name].shape[1]!;
      const all = values[i] as Float32Array;
      assert.deepEqual(
        [...new Set(all.slice(tokens * columns))],
        [UNTOUCHED],
        `${name} past the live tokens`,
      );
      return [name, all.subarray(0, tokens * columns)];
    })) as Record<typeof outputs[number], Float32Array>;
  };
  const free = () => {
    program.free();
    gpu.free(...made);
  };
  return { data, run, free };
}

const MIXED: readonly GroupLengths[] = [
  { prompt: 13, responses: [5, 7] },
  { prompt: 1, responses: [1] },
  { prompt: 0, responses: [3, 9, 2] },
  { prompt: 30, responses: [20, 1, 1, 43] },
  { prompt: 2, responses: [1, 1, 1] },
];

const CASES: readonly Case[] = [
  { groups: MIXED, heads: 1, kv_heads: 1, head_dim: 1 },
  { groups: MIXED, heads: 2, kv_heads: 1, head_dim: 6 },
  { groups: MIXED, heads: 6, kv_heads: 2, head_dim: 20 },
  { groups: MIXED, heads: 4, kv_heads: 4, head_dim: 64 },
  { groups: MIXED, heads: 3, kv_heads: 1, head_dim: 80 },
  { groups: MIXED, heads: 2, kv_heads: 2, head_dim: 128 },
  { groups: MIXED, heads: 1, kv_heads: 1, head_dim: 256 },
  { groups: [{ prompt: 0, responses: [1] }], heads: 2, kv_heads: 1, head_dim: 20 },
  { groups: [{ prompt: 1, responses: [1] }], heads: 2, kv_heads: 1, head_dim: 20 },
  { groups: [{ prompt: 70, responses: [9, 33] }], heads: 2, kv_heads: 1, head_dim: 20, window: 8 },
  { groups: MIXED, heads: 2, kv_heads: 1, head_dim: 20, window: 25 },
  { groups: MIXED, heads: 2, kv_heads: 1, head_dim: 20, window: 2 },
];

for (const c of CASES) {
  const { heads, kv_heads, head_dim, window } = c;
  const name = `${heads}/${kv_heads} heads of ${head_dim}${
    window ? `, window ${window}` : ""
  }, ${c.groups.length} groups`;
  Deno.test(`recordAttention() and recordAttentionGrad() agree with float64: ${name}`, async () => {
    const packed = packedExample(c.groups);
    const { data, run, free } = setUp(c, packed, 7 + head_dim);
    const actual = await run();
    const again = await run();
    free();
    for (const key of Object.keys(actual) as (keyof typeof actual)[]) {
      assert.deepEqual(again[key], actual[key], `${key} of two runs`);
    }
    const shape = {
      ...{ tokens: packed.tokens, heads, kvHeads: kv_heads, headDim: head_dim, spans: packed.spans },
      ...(window ? { window, positions: packed.positions } : {}),
    };
    const { out, lse } = attention(data.q, data.k, data.v, shape);
    assertClose(actual.o, out, { rtol: 1e-5, name: "o", shape: [packed.tokens, heads, head_dim] });
    assertClose(actual.lse, lse, { rtol: 1e-5, name: "lse", shape: [packed.tokens, heads] });
    const { dq, dk, dv } = attentionGrad(data.q, data.k, data.v, data.d_o, shape);
    assertClose(actual.d_q, dq, { rtol: 1e-4, name: "d_q", shape: [packed.tokens, heads, head_dim] });
    assertClose(actual.d_k, dk, { rtol: 1e-4, name: "d_k", shape: [packed.tokens, kv_heads, head_dim] });
    assertClose(actual.d_v, dv, { rtol: 1e-4, name: "d_v", shape: [packed.tokens, kv_heads, head_dim] });
  });
}
