import assert from "node:assert/strict";
import { type AttentionDesign, Gpu, Program, type Tensor } from "../../../src/gpu/mod.ts";
import {
  type AttentionGradTensors,
  type AttentionShape,
  recordAttention,
  recordAttentionGrad,
} from "../../../src/gpu/ops/attention.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { type GroupLengths, type PackedExample, packedExample } from "../../helpers/packed_example.ts";
import { random } from "../../helpers/random.ts";
import { variant } from "../../helpers/tier.ts";
import { attention, attentionGrad } from "../../reference/cpu.ts";
import { input, output, readLive } from "./_tensors.ts";

// Open for the length of the file; the process ends with it.
const gpu = await Gpu.open({ device: "auto" });

interface Case {
  readonly groups: readonly GroupLengths[];
  readonly heads: number;
  readonly kv_heads: number;
  readonly head_dim: number;
  readonly window?: number;
  readonly softcap?: number;
  readonly designs?: readonly AttentionDesign[];
  /** Rows of the tensors past the live tokens. */
  readonly spare_rows?: number;
  /** Another case of the sample stands for this one. */
  readonly alike?: true;
}

/** What outputs hold before a run, to see which rows were written. */
const UNTOUCHED = 777;

/** Passing keys between lanes needs 8 of them. */
const DESIGNS: readonly AttentionDesign[] = gpu.adapter.subgroupSize === 8 ? ["lanes", "tiled"] : ["tiled"];

/** Tensors with a few rows past the live tokens; those of the inputs hold NaN. */
function setUp(
  { heads, kv_heads, head_dim, window, softcap, spare_rows = 3 }: Case,
  packed: PackedExample,
  seed: number,
  design = gpu.policy.attention,
) {
  const { tokens } = packed;
  const { normals } = random(seed);
  const rows = tokens + spare_rows;
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
  const shape: AttentionShape = {
    ...{ heads, kv_heads, head_dim, scale },
    ...{ window: window ?? null, softcap: softcap ?? null },
  };
  const program = new Program<{ tokens: number }>(gpu, "attention", { ...gpu.policy, attention: design });
  recordAttention(program, t, shape);
  recordAttentionGrad(program, t, shape);
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
  { groups: MIXED, heads: 2, kv_heads: 1, head_dim: 67, designs: ["lanes"] },
  { groups: MIXED, heads: 3, kv_heads: 1, head_dim: 80, designs: ["tiled"] },
  { groups: MIXED, heads: 2, kv_heads: 2, head_dim: 100, designs: ["lanes"], alike: true },
  { groups: MIXED, heads: 2, kv_heads: 2, head_dim: 128, designs: ["tiled"], alike: true },
  { groups: MIXED, heads: 1, kv_heads: 1, head_dim: 256, designs: ["lanes"], alike: true },
  { groups: [{ prompt: 0, responses: [1] }], heads: 6, kv_heads: 2, head_dim: 20 },
  { groups: [{ prompt: 1, responses: [1] }], heads: 6, kv_heads: 2, head_dim: 20 },
  { groups: [{ prompt: 64, responses: [32] }], heads: 6, kv_heads: 2, head_dim: 20 },
  { groups: [{ prompt: 70, responses: [9, 33] }], heads: 6, kv_heads: 2, head_dim: 20, window: 8 },
  { groups: MIXED, heads: 8, kv_heads: 2, head_dim: 20, window: 25 },
  { groups: MIXED, heads: 6, kv_heads: 2, head_dim: 20, window: 2 },
  { groups: MIXED, heads: 4, kv_heads: 2, head_dim: 67, window: 1, designs: ["lanes"], alike: true },
  {
    groups: [{ prompt: 100, responses: [70, 3, 90] }, ...MIXED],
    heads: 3,
    kv_heads: 1,
    head_dim: 6,
    window: 33,
    alike: true,
  },
  { groups: MIXED, heads: 4, kv_heads: 2, head_dim: 20, spare_rows: 60_000 },
  { groups: MIXED, heads: 6, kv_heads: 2, head_dim: 20, softcap: 0.7 },
  { groups: MIXED, heads: 2, kv_heads: 1, head_dim: 67, softcap: 50, designs: ["lanes"], alike: true },
  { groups: MIXED, heads: 2, kv_heads: 2, head_dim: 80, softcap: 2, window: 25, alike: true },
];

for (const c of CASES) {
  const { heads, kv_heads, head_dim, window, softcap, groups, spare_rows } = c;
  const tokens = packedExample(groups).tokens;
  const title = `${heads}/${kv_heads} heads of ${head_dim}, ${tokens} tokens${
    window ? `, window ${window}` : ""
  }${softcap ? `, cap ${softcap}` : ""}${spare_rows ? ` of at most ${tokens + spare_rows}` : ""}`;
  for (const design of DESIGNS.filter((design) => c.designs?.includes(design) ?? true)) {
    const name = `recordAttention() and recordAttentionGrad() agree with float64: ${design}, ${title}`;
    variant(!c.alike)(name, async () => {
      const packed = packedExample(groups);
      const { data, run, free } = setUp(c, packed, 7 + head_dim, design);
      const actual = await run();
      const again = await run();
      free();
      for (const key of Object.keys(actual) as (keyof typeof actual)[]) {
        assert.deepEqual(again[key], actual[key], `${key} of two runs`);
      }
      const shape = {
        ...{ tokens, heads, kvHeads: kv_heads, headDim: head_dim, spans: packed.spans },
        ...(window ? { window, positions: packed.positions } : {}),
        ...(softcap ? { softcap } : {}),
      };
      const { out, lse } = attention(data.q, data.k, data.v, shape);
      assertClose(actual.o, out, { rtol: 1e-5, name: "o", shape: [tokens, heads, head_dim] });
      assertClose(actual.lse, lse, { rtol: 1e-5, name: "lse", shape: [tokens, heads] });
      const { dq, dk, dv } = attentionGrad(data.q, data.k, data.v, data.d_o, shape);
      // A sequence of one token has gradients of exactly 0, which f32 meets to rounding.
      const tolerance = { rtol: 1e-4, atol: 1e-6 };
      assertClose(actual.d_q, dq, { ...tolerance, name: "d_q", shape: [tokens, heads, head_dim] });
      assertClose(actual.d_k, dk, { ...tolerance, name: "d_k", shape: [tokens, kv_heads, head_dim] });
      assertClose(actual.d_v, dv, { ...tolerance, name: "d_v", shape: [tokens, kv_heads, head_dim] });
    });
  }
}

for (const c of CASES.filter(({ window, softcap, head_dim }) => window || softcap || head_dim % 64 === 0)) {
  const { heads, kv_heads, head_dim, window, softcap, groups } = c;
  for (const design of DESIGNS.filter((design) => c.designs?.includes(design) ?? true)) {
    const title = `${heads}/${kv_heads} heads of ${head_dim}, window ${window ?? "none"}, cap ${softcap}`;
    const name = `recordAttention() of a stream whose prompts' first keys are known: ${design}, ${title}`;
    variant(!c.alike)(name, async () => {
      const whole = packedExample(groups);
      const { normals } = random(head_dim);
      const q = normals(whole.tokens * heads * head_dim);
      const k = normals(whole.tokens * kv_heads * head_dim);
      const v = normals(whole.tokens * kv_heads * head_dim);
      // of each prompt but a short one all tokens but the last three, or but the last
      let start = 0;
      const places = Uint32Array.from(groups.flatMap(({ prompt, responses }, i) => {
        const length = prompt + responses.reduce((sum, tokens) => sum + tokens, 0);
        const known = Math.max(0, prompt - (i % 2 === 0 ? 3 : 1));
        start += length;
        return Array.from({ length: length - known }, (_, token) => start - length + known + token);
      }));
      const kept = <A extends Float32Array | Uint32Array>(all: A, columns: number) =>
        Array.from(places, (place) => [...all.subarray(place * columns, (place + 1) * columns)]).flat();
      const tokens = places.length;
      const t = {
        q: input(gpu, Float32Array.from(kept(q, heads * head_dim)), heads * head_dim),
        k: input(gpu, k, kv_heads * head_dim),
        v: input(gpu, v, kv_heads * head_dim),
        spans: input(gpu, Uint32Array.from(kept(whole.spans, 4)), 4),
        positions: input(gpu, Uint32Array.from(kept(whole.positions, 1)), 1),
        places: input(gpu, places, 1),
        o: output(gpu, tokens, heads * head_dim),
        lse: output(gpu, tokens, heads),
      };
      const policy = { ...gpu.policy, attention: design };
      const program = new Program<{ tokens: number; keys: number }>(gpu, "attention", policy);
      const limits = { window: window ?? null, softcap: softcap ?? null };
      const shape = { heads, kv_heads, head_dim, scale: 1 / Math.sqrt(head_dim), ...limits };
      recordAttention(program, t, shape);
      program.run({ tokens, keys: whole.tokens });
      const [o, lse] = await readLive(gpu, t.o, t.lse);
      const expected = attention(q, k, v, {
        ...{ tokens: whole.tokens, heads, kvHeads: kv_heads, headDim: head_dim, spans: whole.spans },
        ...(window ? { window, positions: whole.positions } : {}),
        ...(softcap ? { softcap } : {}),
      });
      const rows = (all: ArrayLike<number>, columns: number) =>
        kept(Float32Array.from(Array.from(all)), columns);
      assertClose(o!, rows(expected.out, heads * head_dim), { rtol: 1e-5, name: "o" });
      assertClose(lse!, rows(expected.lse, heads), { rtol: 1e-5, name: "lse" });
      program.free();
      gpu.free(...Object.values(t));
    });
  }
}

for (const keys of [59_990, 200_000]) {
  Deno.test(`recordAttention() walks all of ${keys} keys`, async () => {
    const heads = 2;
    const head_dim = 4;
    const { normals } = random(keys);
    const [q, k, v] = [normals(heads * head_dim), normals(keys * head_dim), normals(keys * head_dim)];
    const t = {
      q: input(gpu, q, heads * head_dim),
      k: input(gpu, k, head_dim),
      v: input(gpu, v, head_dim),
      spans: input(gpu, Uint32Array.of(0, keys - 1, keys - 1, keys), 4),
      positions: input(gpu, Uint32Array.of(keys - 1), 1),
      places: input(gpu, Uint32Array.of(keys - 1), 1),
      o: output(gpu, 1, heads * head_dim),
      lse: output(gpu, 1, heads),
    };
    const program = new Program<{ tokens: number; keys: number }>(gpu, "attention");
    recordAttention(program, t, { heads, kv_heads: 1, head_dim, scale: 0.5 });
    program.run({ tokens: 1, keys });
    const [o, lse] = await readLive(gpu, t.o, t.lse);
    for (let head = 0; head < heads; head++) {
      let total = 0;
      const sums = new Float64Array(head_dim);
      for (let key = 0; key < keys; key++) {
        let score = 0;
        for (let i = 0; i < head_dim; i++) score += 0.5 * q[head * head_dim + i]! * k[key * head_dim + i]!;
        const weight = Math.exp(score);
        total += weight;
        for (let i = 0; i < head_dim; i++) sums[i]! += weight * v[key * head_dim + i]!;
      }
      const tolerance = { rtol: 1e-5, atol: 1e-6 };
      assertClose(lse!.slice(head, head + 1), [Math.log(total)], { ...tolerance, name: "lse" });
      const row = o!.slice(head * head_dim, (head + 1) * head_dim);
      assertClose(row, sums.map((sum) => sum / total), { ...tolerance, name: "o" });
    }
    program.free();
    gpu.free(...Object.values(t));
  });
}

Deno.test("recordAttention() passes 65,535 loop iterations: 5,300 tokens of 20 elements, 6 heads a group", async () => {
  // One response: every token sees all before it. 5,300 * 20 iterations, or 6 * 5,300 * 3 over a group, would be too many.
  const c: Case = { groups: [{ prompt: 5000, responses: [300] }], heads: 6, kv_heads: 1, head_dim: 20 };
  const { heads, head_dim } = c;
  const packed = packedExample(c.groups);
  const { tokens } = packed;
  const { data: { q, k, v, d_o }, run, free } = setUp(c, packed, 1);
  const actual = await run();
  free();
  const columns = Array.from({ length: head_dim }, (_, i) => i);
  const dot = (a: ArrayLike<number>, i: number, b: ArrayLike<number>, j: number) =>
    columns.reduce((sum, column) => sum + a[i * head_dim + column]! * b[j * head_dim + column]!, 0);
  const score = (row: number, key: number) => dot(q, row, k, key) / Math.sqrt(head_dim);

  for (const token of [4999, 5299]) {
    const row = token * heads + 4;
    const scores = Array.from({ length: token + 1 }, (_, key) => score(row, key));
    const lse = Math.log(scores.reduce((sum, s) => sum + Math.exp(s), 0));
    const weights = scores.map((s) => Math.exp(s - lse));
    const mean = (column: number) =>
      weights.reduce((sum, w, key) => sum + w * v[key * head_dim + column]!, 0);
    const d_weights = weights.map((_, key) => dot(d_o, row, v, key));
    const delta = weights.reduce((sum, w, key) => sum + w * d_weights[key]!, 0);
    const d_q = columns.map((column) =>
      weights.reduce((sum, w, key) => sum + w * (d_weights[key]! - delta) * k[key * head_dim + column]!, 0) /
      Math.sqrt(head_dim)
    );
    const begin = row * head_dim;
    assertClose(actual.lse.subarray(row, row + 1), [lse], { rtol: 1e-5, name: `lse of ${token}` });
    assertClose(actual.o.subarray(begin, begin + head_dim), columns.map(mean), {
      rtol: 1e-5,
      name: `o of ${token}`,
    });
    assertClose(actual.d_q.subarray(begin, begin + head_dim), d_q, { rtol: 1e-4, name: `d_q of ${token}` });
  }
  for (const key of [0, 4000]) {
    const d_k = columns.map(() => 0);
    const d_v = columns.map(() => 0);
    for (let row = key * heads; row < tokens * heads; row++) {
      const weight = Math.exp(score(row, key) - actual.lse[row]!);
      const d_score = weight * (dot(d_o, row, v, key) - dot(d_o, row, actual.o, row)) / Math.sqrt(head_dim);
      for (const column of columns) {
        d_k[column]! += d_score * q[row * head_dim + column]!;
        d_v[column]! += weight * d_o[row * head_dim + column]!;
      }
    }
    const begin = key * head_dim;
    assertClose(actual.d_k.subarray(begin, begin + head_dim), d_k, { rtol: 1e-4, name: `d_k of ${key}` });
    assertClose(actual.d_v.subarray(begin, begin + head_dim), d_v, { rtol: 1e-4, name: `d_v of ${key}` });
  }
});

Deno.test("recordAttention() refuses query heads that do not share key/value heads evenly", () => {
  const shape = { heads: 5, kv_heads: 2, head_dim: 8, scale: 1 };
  const program = new Program<{ tokens: number }>(gpu, "attention");
  const t = {} as AttentionGradTensors;
  assert.throws(() => recordAttention(program, t, shape), /5 query heads cannot share 2/);
  assert.throws(() => recordAttentionGrad(program, t, shape), /5 query heads cannot share 2/);
});
