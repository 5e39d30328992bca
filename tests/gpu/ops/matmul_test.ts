import assert from "node:assert/strict";
import { Gpu, type MatmulDesign, Program, rowsOf, type Tensor } from "../../../src/gpu/mod.ts";
import { type MatmulOptions, type MatmulTensors, recordMatmul } from "../../../src/gpu/ops/matmul.ts";
import { fromF32 as toStored } from "../../../src/model/dtype.ts";
import { quantizeInt8 } from "../../../src/model/int8.ts";
import { splitLength } from "../../../src/gpu/ops/matmul_splits.ts";
import { MATMUL_TILES, tileKey, type TileName } from "../../../src/gpu/ops/matmul_tiles.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { type Random, random } from "../../helpers/random.ts";
import { ACTIVATIONS } from "../../reference/cpu.ts";
import { variant } from "../../helpers/tier.ts";
import { dequantizeInt8 } from "../../reference/int8.ts";
import { matmul, type MatmulLayout } from "../../reference/linear.ts";

const device = await Gpu.open({ device: "auto" });
const DESIGNS: readonly MatmulDesign[] = device.adapter.subgroupSize === 8
  ? ["subgroup", "direct", "tiled"]
  : ["direct", "tiled"];
device.close();
const LAYOUTS = ["NT", "NN", "TN"] as const;
type Storage = "f32" | "f16" | "bf16" | "int8";
type Sizes = { m: number; n: number; k: number };
type Shape = [rows: number, columns: number];

/**
 * Registers one of `kinds` tests of a design and layout; a sample has another of them for the next design or layout.
 *
 * @param oncePerLayout whether `--all` has it for one of the designs only
 */
function oneOf(
  kinds: number,
  kind: number,
  design: MatmulDesign,
  layout: typeof LAYOUTS[number],
  oncePerLayout = false,
) {
  const [d, l] = [DESIGNS.indexOf(design), LAYOUTS.indexOf(layout)];
  return variant((4 * d + l) % kinds === kind, !oncePerLayout || (d + l + kind) % DESIGNS.length === 0);
}

interface Case {
  readonly layout: MatmulOptions<Sizes>["layout"];
  readonly storage?: Storage;
  readonly live: Sizes;
  /** Sizes of the tensors; the live ones unless given. */
  readonly full?: Sizes;
  readonly alpha?: number;
  readonly accumulate?: boolean;
  /** Of a low-rank update. */
  readonly rank?: number;
  readonly biased?: boolean;
  readonly gate?: "silu" | "gelu_tanh";
  readonly residual?: boolean;
}

/** What may be done to a product as it is stored. */
const EPILOGUES: readonly Pick<Case, "biased" | "gate" | "residual">[] = [
  { biased: true },
  { gate: "silu" },
  { biased: true, gate: "gelu_tanh" },
  { residual: true },
];

/** Live sizes and those of the tensors. */
const EPILOGUE_SIZES: readonly (readonly [live: Sizes, full: Sizes])[] = [
  [{ m: 1, n: 1, k: 1 }, { m: 1, n: 1, k: 1 }],
  [{ m: 67, n: 72, k: 40 }, { m: 67, n: 72, k: 40 }],
  [{ m: 37, n: 41, k: 27 }, { m: 40, n: 44, k: 32 }],
  [{ m: 33, n: 66, k: 18 }, { m: 35, n: 67, k: 19 }],
  [{ m: 45, n: 3, k: 6 }, { m: 48, n: 8, k: 8 }],
  [{ m: 13, n: 64, k: 1030 }, { m: 16, n: 64, k: 1032 }],
  [{ m: 5, n: 6, k: 0 }, { m: 8, n: 8, k: 8 }],
];

/** As {@link EPILOGUE_SIZES}: a residual is added as C is stored, or copied to C before. */
const RESIDUAL_SIZES: typeof EPILOGUE_SIZES = [
  [{ m: 35, n: 68, k: 20 }, { m: 40, n: 68, k: 24 }],
  [{ m: 35, n: 20, k: 20 }, { m: 35, n: 20, k: 20 }],
  [{ m: 9, n: 16, k: 20 }, { m: 12, n: 16, k: 20 }],
  [{ m: 9, n: 67, k: 20 }, { m: 12, n: 67, k: 20 }],
  [{ m: 13, n: 64, k: 1030 }, { m: 16, n: 64, k: 1032 }],
  [{ m: 3, n: 32, k: 70_004 }, { m: 3, n: 32, k: 70_004 }],
];

/** Runs one product and compares all of C, what must stay untouched included; the operands' unused parts hold NaN. */
async function check(gpu: Gpu, source: Random, testCase: Case): Promise<void> {
  const { layout, storage = "f32", live, full = live, alpha = 1, accumulate = false, rank, gate } = testCase;
  const fullShapes = shapes(layout, full);
  const liveShapes = shapes(layout, live);
  const aLive = source.normals(live.m * live.k);
  const { b, bLive } = operandB(gpu, source, liveShapes.b, fullShapes.b, storage);
  const before = source.normals(full.m * full.n);

  const a = gpu.upload("a", fullShapes.a, embed(aLive, liveShapes.a, fullShapes.a));
  const c = gpu.upload("c", [full.m, full.n], before);
  const low_rank = rank === undefined ? null : lowRank(gpu, source, layout, live, full, rank);
  const shift = testCase.biased ? source.normals(live.n) : new Float32Array(live.n);
  const bias = gpu.upload("bias", [full.n], embed(shift, [1, live.n], [1, full.n]));
  const program = new Program<Sizes>(gpu, "matmul");
  const stream = source.normals(full.m * full.n);
  const residual = gpu.upload("residual", [full.m, full.n], stream);
  const operands = {
    ...{ a, b, c },
    ...(low_rank && { low_rank: { u: low_rank.u, v: low_rank.v } }),
    ...(testCase.biased && { bias }),
    ...(testCase.residual && { residual }),
  };
  const epilogue = {
    alpha,
    accumulate,
    ...(gate && { gate }),
  };
  recordMatmul(program, operands, { layout, size: (sizes) => sizes, n: live.n, ...epilogue });
  program.run(live);
  const actual = await gpu.readF32(c);
  program.free();
  gpu.free(a, b, c, bias, residual, ...low_rank ? [low_rank.u, low_rank.v] : []);

  const product = matmul(layout.toLowerCase() as MatmulLayout, aLive, bLive, live);
  const expected = new Float64Array(live.m * live.n);
  const got = new Float64Array(live.m * live.n);
  for (let row = 0; row < full.m; row++) {
    for (let column = 0; column < full.n; column++) {
      const at = row * full.n + column;
      if (row < live.m && column < live.n) {
        const i = row * live.n + column;
        const result = alpha * (product[i]! + (low_rank?.product[i] ?? 0)) + shift[column]!;
        expected[i] = gate
          ? ACTIVATIONS[gate].value(before[at]!) * result
          : result + (testCase.residual ? stream[at]! : accumulate ? before[at]! : 0);
        got[row * live.n + column] = actual[at]!;
      } else {
        assert.equal(actual[at], before[at], `C[${row}, ${column}] lies outside and must stay`);
      }
    }
  }
  const name = `${gpu.policy.matmul} ${JSON.stringify(testCase)}`;
  assertClose(got, expected, { rtol: 1e-5, name, shape: [live.m, live.n] });
}

/** Operands of a low-rank update, NaN outside the live sizes, and its product. */
function lowRank(gpu: Gpu, source: Random, layout: Case["layout"], live: Sizes, full: Sizes, rank: number) {
  const { a: uLiveShape, b: vLiveShape } = shapes(layout, { ...live, k: rank });
  const { a: uShape, b: vShape } = shapes(layout, { ...full, k: rank });
  const u = source.normals(live.m * rank);
  const v = source.normals(live.n * rank);
  return {
    u: gpu.upload("u", uShape, embed(u, uLiveShape, uShape)),
    v: gpu.upload("v", vShape, embed(v, vLiveShape, vShape)),
    product: matmul(layout.toLowerCase() as MatmulLayout, u, v, { ...live, k: rank }),
  };
}

function shapes(layout: Case["layout"], { m, n, k }: Sizes): { a: Shape; b: Shape } {
  return { a: layout === "TN" ? [k, m] : [m, k], b: layout === "NT" ? [n, k] : [k, n] };
}

/** The live values in the upper left corner of a larger array that is NaN elsewhere. */
function embed(values: Float32Array, live: Shape, full: Shape): Float32Array {
  const out = new Float32Array(full[0] * full[1]).fill(NaN);
  for (let row = 0; row < live[0]; row++) {
    out.set(values.subarray(row * live[1], (row + 1) * live[1]), row * full[1]);
  }
  return out;
}

const bits = new DataView(new ArrayBuffer(4));

type FloatStorage = Exclude<Storage, "int8">;

/** Rounds to the storage's bits, toward zero for bf16; the product is compared with what is stored. */
function fromF32(value: number, storage: FloatStorage): number {
  if (storage === "f16") {
    bits.setFloat16(0, value);
    return bits.getUint16(0);
  }
  bits.setFloat32(0, value);
  return storage === "bf16" ? bits.getUint16(0) : bits.getUint32(0);
}

function toF32(stored: number, storage: FloatStorage): number {
  if (storage === "f16") {
    bits.setUint16(0, stored);
    return bits.getFloat16(0);
  }
  bits.setUint32(0, storage === "bf16" ? stored << 16 : stored);
  return bits.getFloat32(0);
}

/** The operand as it is stored, and its live values as the storage rounds them. */
function operandB(
  gpu: Gpu,
  source: Random,
  live: Shape,
  full: Shape,
  storage: Storage,
): { b: Tensor; bLive: Float32Array } {
  if (storage === "int8") return int8OperandB(gpu, source, live, full);
  const bLive = source.normals(live[0] * live[1]).map((value) => toF32(fromF32(value, storage), storage));
  const values = embed(bLive, live, full);
  if (storage === "f32") return { b: gpu.upload("b", full, values), bLive };
  const b = gpu.tensor("b", full, storage);
  gpu.write(b, Uint16Array.from(values, (value) => fromF32(value, storage)));
  return { b, bLive };
}

/** Blocks that hold nothing live have the scale NaN; what is not live in the others is the largest number. */
function int8OperandB(gpu: Gpu, source: Random, live: Shape, full: Shape) {
  const bytes = quantizeInt8(new Uint8Array(source.normals(full[0] * full[1]).buffer), "F32");
  const values = dequantizeInt8(bytes);
  const bLive = new Float32Array(live[0] * live[1]);
  const view = new DataView(bytes.buffer);
  for (let row = 0; row < full[0]; row++) {
    for (let column = 0; column < full[1]; column++) {
      const i = row * full[1] + column;
      const block = Math.floor(i / 32) * 36;
      if (row < live[0] && column < live[1]) bLive[row * live[1] + column] = values[i]!;
      else if (row >= live[0] || column - column % 32 >= live[1]) view.setFloat32(block, NaN, true);
      else view.setInt8(block + 4 + i % 32, 127);
    }
  }
  const b = gpu.tensor("b", full, "int8");
  gpu.write(b, bytes);
  return { b, bLive };
}

for (const design of DESIGNS) {
  const open = () => Gpu.open({ device: "auto", policy: { matmul: design } });

  for (const layout of LAYOUTS) {
    Deno.test(`recordMatmul() ${design} ${layout} is right at every awkward size`, async () => {
      const gpu = await open();
      const source = random(1);
      for (
        const [m, n, k] of [
          [1, 1, 1],
          [31, 7, 13],
          [67, 131, 37],
          [4, 4, 4],
          [132, 68, 44],
          [20, 140, 8],
          [3, 256, 24],
          [40, 8, 256],
          [40, 12, 4],
          [40, 32, 8],
        ] as const
      ) await check(gpu, source, { layout, live: { m, n, k } });
      gpu.close();
    });

    const test = oneOf(3, 0, design, layout);
    test(
      `recordMatmul() ${design} ${layout} reads and writes nothing outside the live sizes`,
      async () => {
        const gpu = await open();
        const source = random(2);
        for (
          const [live, full] of [
            [{ m: 37, n: 41, k: 27 }, { m: 40, n: 44, k: 32 }],
            [{ m: 33, n: 66, k: 18 }, { m: 35, n: 67, k: 19 }],
            [{ m: 1, n: 1, k: 1 }, { m: 100, n: 100, k: 100 }],
            [{ m: 45, n: 3, k: 6 }, { m: 48, n: 8, k: 8 }],
            [{ m: 0, n: 6, k: 7 }, { m: 8, n: 8, k: 8 }],
            [{ m: 5, n: 6, k: 0 }, { m: 8, n: 8, k: 8 }],
          ] as const
        ) {
          await check(gpu, source, { layout, live, full });
          await check(gpu, source, { layout, live, full, accumulate: true, alpha: -0.75 });
        }
        gpu.close();
      },
    );

    test(`recordMatmul() ${design} ${layout} sums past the driver's budget of loop iterations`, async () => {
      const gpu = await open();
      const source = random(3);
      await check(gpu, source, { layout, live: { m: 3, n: 4, k: 300_004 }, alpha: 2 });
      await check(gpu, source, {
        layout,
        live: { m: 3, n: 5, k: 70_001 },
        full: { m: 3, n: 5, k: 270_000 },
        accumulate: true,
      });
      gpu.close();
    });
  }

  for (const layout of ["NT", "NN"] as const) {
    for (const [kind, storage] of (["f16", "bf16"] as const).entries()) {
      oneOf(3, kind, design, layout)(`recordMatmul() ${design} ${layout} reads ${storage}`, async () => {
        const gpu = await open();
        const source = random(4);
        for (
          const [live, full] of [
            [{ m: 33, n: 72, k: 40 }, { m: 33, n: 72, k: 40 }],
            [{ m: 35, n: 77, k: 43 }, { m: 36, n: 80, k: 48 }],
            [{ m: 65, n: 6, k: 30 }, { m: 65, n: 8, k: 32 }],
          ] as const
        ) await check(gpu, source, { layout, storage, live, full });
        // Only the rows of B need to be a multiple of 8 long.
        const [n, k] = layout === "NT" ? [67, 24] : [24, 67];
        await check(gpu, source, { layout, storage, live: { m: 9, n, k }, accumulate: true });
        gpu.close();
      });
    }
  }
}

for (const design of DESIGNS) {
  for (const layout of ["NT", "NN"] as const) {
    oneOf(3, 2, design, layout)(`recordMatmul() ${design} ${layout} reads int8`, async () => {
      const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
      const source = random(6);
      for (
        const [live, full] of [
          [{ m: 1, n: 32, k: 32 }, { m: 1, n: 32, k: 32 }],
          [{ m: 33, n: 96, k: 160 }, { m: 33, n: 96, k: 160 }],
          [{ m: 67, n: 75, k: 43 }, { m: 68, n: 128, k: 64 }],
          [{ m: 5, n: 6, k: 30 }, { m: 8, n: 32, k: 96 }],
          [{ m: 3, n: 20, k: 128 }, { m: 3, n: 32, k: 128 }],
        ] as const
      ) {
        await check(gpu, source, { layout, storage: "int8", live, full });
        await check(gpu, source, { layout, storage: "int8", live, full, accumulate: true, alpha: -0.75 });
      }
      // Only the rows of B need to be whole blocks.
      const [n, k] = layout === "NT" ? [67, 32] : [32, 67];
      await check(gpu, source, { layout, storage: "int8", live: { m: 9, n, k } });
      gpu.close();
    });
  }

  for (const layout of ["NT", "NN"] as const) {
    const test = oneOf(6, 1, design, layout, layout === "NN");
    test(`recordMatmul() ${design} ${layout} adds a low-rank update in the same sums`, async () => {
      const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
      const source = random(8);
      const even = { m: 67, n: 72, k: 40 };
      for (const rank of [1, 3, 4, 16, 64, 256]) {
        await check(gpu, source, { layout, rank, live: even });
        await check(gpu, source, { layout, rank, live: { m: 67, n: 131, k: 37 }, accumulate: true });
      }
      for (const storage of ["f16", "bf16", "int8"] as const) {
        const full = { m: 36, n: 96, k: 64 };
        const live = { m: 35, n: 77, k: 43 };
        await check(gpu, source, { layout, storage, rank: 8, live, full, alpha: -0.75 });
      }
      const narrow = { m: 45, n: 12, k: 8 };
      await check(gpu, source, {
        layout,
        rank: 4,
        live: { ...narrow, k: 0 },
        full: narrow,
        accumulate: true,
      });
      await check(gpu, source, { layout, rank: 4, live: { m: 5, n: 8, k: 8 } });
      await check(gpu, source, { layout, rank: 8, live: { m: 3, n: 4, k: 70_004 }, accumulate: true });
      gpu.close();
    });
  }

  for (const layout of LAYOUTS) {
    const ranks = layout === "TN" ? [0] : [0, 3, 8];
    for (const [i, epilogue] of EPILOGUES.entries()) {
      for (const [j, rank] of ranks.entries()) {
        const given = { layout, ...epilogue, ...rank > 0 && { rank } };
        const test = oneOf(3 * EPILOGUES.length, 3 * i + j, design, layout, true);
        test(`recordMatmul() ${design} stores as it is told: ${JSON.stringify(given)}`, async () => {
          const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
          const source = random(10);
          for (const [live, full] of epilogue.residual ? RESIDUAL_SIZES : EPILOGUE_SIZES) {
            const biased = epilogue.residual ? rank > 0 && live.k < 70_000 : epilogue.biased ?? false;
            await check(gpu, source, { ...given, live, full, biased, ...rank === 0 && { alpha: -0.75 } });
          }
          if (epilogue.biased && !epilogue.gate && rank === 0) {
            await check(gpu, source, { ...given, live: { m: 35, n: 68, k: 20 }, accumulate: true });
          }
          gpu.close();
        });
      }
    }
  }

  Deno.test(`recordMatmul() ${design} reads rows of a larger int8 tensor`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
    const source = random(7);
    const [m, n, k] = [5, 32, 64];
    const bytes = quantizeInt8(new Uint8Array(source.normals(3 * n * k).buffer), "F32");
    const whole = gpu.tensor("b", [3 * n, k], "int8");
    gpu.write(whole, bytes);
    const a = source.normals(m * k);
    const c = gpu.tensor("c", [m, n]);
    const program = new Program<Sizes>(gpu, "rows");
    const operands = { a: gpu.upload("a", [m, k], a), b: rowsOf(whole, n, n), c };
    recordMatmul(program, operands, { layout: "NT", size: (sizes) => sizes });
    program.run({ m, n, k });
    const middle = dequantizeInt8(bytes).subarray(n * k, 2 * n * k);
    assertClose(await gpu.readF32(c), matmul("nt", a, middle, { m, n, k }), { rtol: 1e-5, name: "C" });
    gpu.close();
  });
}

for (const design of DESIGNS.filter((design) => design !== "tiled")) {
  for (const layout of ["NN", "TN"] as const) {
    const test = oneOf(6, 1, design, layout);
    test(`recordMatmul() ${design} ${layout} is right where columns of B are packed`, async () => {
      const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
      const source = random(11);
      const full = { m: 256, n: 1024, k: 1100 }; // slabs of 896 columns
      await check(gpu, source, { layout, live: { m: 37, n: 1024, k: 1100 }, full });
      await check(gpu, source, { layout, live: { m: 35, n: 901, k: 1097 }, full, alpha: -0.75 });
      await check(gpu, source, { layout, live: { m: 9, n: 1023, k: 603 }, full, accumulate: true });
      await check(gpu, source, { layout, live: { m: 6, n: 1024, k: 99 }, full, residual: true });
      await check(gpu, source, { layout, live: { m: 5, n: 70, k: 1 }, full, biased: true });
      await check(gpu, source, { layout, live: { m: 5, n: 960, k: 0 }, full, biased: true, gate: "silu" });
      await check(gpu, source, { layout, live: { m: 3, n: 898, k: 70 }, full: { m: 256, n: 8192, k: 72 } });
      if (layout === "NN") {
        for (const rank of [3, 8]) {
          await check(gpu, source, { layout, rank, live: { m: 11, n: 1001, k: 905 }, full });
        }
        await check(gpu, source, {
          layout,
          rank: 4,
          live: { m: 11, n: 900, k: 0 },
          full,
          accumulate: true,
        });
      }
      gpu.close();
    });

    Deno.test(`recordMatmul() ${design} ${layout} packs columns of B without another digit`, async () => {
      const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
      const source = random(12);
      const [n, most] = [1000, { m: 516, k: 1100 }];
      const [aShape, live] = [shapes(layout, { ...most, n }).a, source.normals(most.k * n)];
      const a = gpu.upload("a", aShape, source.normals(most.m * most.k));
      const products = [1024, 1028].map((stride) => {
        const b = gpu.upload("b", [most.k, stride], embed(live, [most.k, n], [most.k, stride]));
        const c = gpu.tensor("c", [most.m, n]);
        const program = new Program<{ m: number; k: number }>(gpu, "packed");
        recordMatmul(program, { a, b, c }, { layout, n, size: (sizes) => sizes });
        return { program, c };
      });
      const [packed, plain] = products.map(({ program }) =>
        program.dispatches(most).map(({ kernel, params: { n_begin, n } }) => ({ kernel, n_begin, n }))
      );
      const kernel = plain![0]!.kernel;
      const pack = {
        kernel: `pack_panels_${design === "direct" ? 128 : 64}`,
        n_begin: undefined,
        n: undefined,
      };
      assert.deepEqual(plain, [{ kernel, n_begin: 0, n }]);
      assert.deepEqual(packed, [pack, { kernel, n_begin: 0, n: 896 }, pack, { kernel, n_begin: 896, n }]);
      for (const sizes of [most, { m: 33, k: 601 }, { m: 515, k: 1098 }]) {
        for (const { program } of products) program.run(sizes);
        const [packed, plain] = [await gpu.readF32(products[0]!.c), await gpu.readF32(products[1]!.c)];
        assert.deepEqual(packed, plain);
      }
      gpu.close();
    });
  }
}

for (const design of DESIGNS) {
  Deno.test(`recordMatmul() ${design} packs columns of B only where that pays`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: design } });
    const packs = (layout: "NT" | "NN" | "TN", m: number, k: number, stride: number, more = {}) => {
      const { storage = "f32", n = stride } = more as { storage?: Storage; n?: number };
      const program = new Program<Sizes>(gpu, "packs");
      const shape = shapes(layout, { m, n: stride, k });
      const tensors = { a: gpu.tensor("a", shape.a), b: gpu.tensor("b", shape.b, storage) };
      const c = gpu.tensor("c", [m, stride]);
      recordMatmul(program, { ...tensors, c }, { layout, n, size: (live) => live });
      const kernels = program.dispatches({ m, n, k }).map(({ kernel }) => kernel.split("_")[0]);
      gpu.free(tensors.a, tensors.b, c);
      return kernels[0] === "pack";
    };
    const registers = design !== "tiled";
    assert.equal(packs("NN", 256, 512, 1024), registers);
    assert.equal(packs("TN", 256, 256, 2048), registers);
    assert.equal(packs("NN", 256, 512, 3072, { n: 128 }), registers);
    assert.equal(packs("TN", 256, 1024, 1536), registers);
    assert.equal(packs("NN", 256, 8192, 1028), registers);
    assert.ok(!packs("NT", 256, 1024, 1024), "rows");
    assert.ok(!packs("NN", 252, 512, 1024), "m");
    assert.ok(!packs("NN", 256, 508, 1024), "k");
    assert.ok(!packs("NN", 256, 1020, 1536), "k");
    assert.ok(!packs("NN", 256, 4092, 1028), "k");
    assert.ok(!packs("NN", 256, 516, 1024, { n: 32 }), "n");
    assert.ok(!packs("NN", 256, 516, 2048, { storage: "bf16" }), "storage");
    assert.ok(!packs("NN", 256, 16_388, 1024), "a panel larger than the buffer");
    gpu.close();
  });
}

for (const layout of LAYOUTS) {
  Deno.test(`recordMatmul() tiled ${layout} shares the steps of k of a small output among workgroups`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });
    const source = random(9);
    for (
      const [live, full] of [
        [{ m: 16, n: 40, k: 1533 }, { m: 16, n: 40, k: 1536 }],
        [{ m: 13, n: 8, k: 256 }, { m: 16, n: 12, k: 700 }],
        [{ m: 1, n: 68, k: 0 }, { m: 4, n: 68, k: 700 }],
        [{ m: 16, n: 4096, k: 130 }, { m: 16, n: 4096, k: 520 }],
      ] as const
    ) {
      await check(gpu, source, { layout, live, full });
      await check(gpu, source, { layout, live, full, accumulate: true, alpha: -0.75 });
    }
    if (layout !== "TN") {
      const live = { m: 7, n: 64, k: 512 };
      for (const storage of ["f16", "bf16", "int8"] as const) {
        await check(gpu, source, { layout, storage, live });
      }
    }
    const program = new Program<Sizes>(gpu, "shares");
    const sizes = { m: 16, n: 40, k: 1536 };
    const { a, b } = shapes(layout, sizes);
    const tensors = { a: gpu.tensor("a", a), b: gpu.tensor("b", b), c: gpu.tensor("c", [sizes.m, sizes.n]) };
    recordMatmul(program, tensors, { layout, size: (live) => live });
    assert.deepEqual(program.dispatches(sizes).map(({ kernel }) => kernel.split("_")[0]), ["matmul", "sum"]);
    gpu.close();
  });
}

Deno.test("splitLength() shares long sums of small outputs alone", () => {
  assert.equal(splitLength("TN", 16, 256, 1532), 256);
  assert.equal(splitLength("TN", 16, 4096, 1532), 384);
  assert.equal(splitLength("TN", 16, 256, 200), 200);
  assert.equal(splitLength("TN", 512, 512, 4096), 4096);
  assert.equal(splitLength("NT", 8, 4096, 4096), 512);
  assert.equal(splitLength("NT", 17, 64, 4096), 4096);
});

for (const layout of LAYOUTS) {
  variant(layout === "NT")(`recordMatmul() ${layout} gives the same digits with every tile`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });
    const sizes = { m: 132, n: 68, k: 36 };
    const digits = new Set<string>();
    for (const tile of Object.keys(MATMUL_TILES) as TileName[]) {
      gpu.policy = { ...gpu.policy, tiles: { [tileKey(layout, "small")]: tile } };
      const live = { m: 131, n: 67, k: 35 };
      await check(gpu, random(6), { layout, live, full: sizes, accumulate: true, biased: true });
      const { a, b } = shapes(layout, sizes);
      const program = new Program<Sizes>(gpu, "matmul");
      const c = gpu.tensor("c", [sizes.m, sizes.n]);
      const operand = (shape: [number, number]) =>
        gpu.upload("x", shape, random(7).normals(shape[0] * shape[1]));
      recordMatmul(program, { a: operand(a), b: operand(b), c }, { layout, size: (live) => live });
      assert.ok(program.dispatches(sizes)[0]!.kernel.includes(`_${tile}`));
      program.run(sizes);
      digits.add((await gpu.readF32(c)).join());
    }
    assert.equal(digits.size, 1);
    gpu.close();
  });
}

for (const layout of LAYOUTS) {
  const test = variant(layout === "NN");
  test(`recordMatmul() tiled ${layout} takes large tiles where they keep a GPU busy`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy: { matmul: "tiled" } });
    await check(gpu, random(5), { layout, live: { m: 1796, n: 1764, k: 20 } });
    gpu.close();
  });
}

Deno.test("recordMatmul() refuses tensors that do not fit", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const program = new Program<Sizes>(gpu, "refused");
  const a = gpu.tensor("a", [4, 12]);
  const b = gpu.tensor("b", [4, 12], "bf16");
  const c = gpu.tensor("c", [4, 4]);
  const record = (b: Tensor, layout: "NT" | "TN" = "NT") =>
    recordMatmul(program, { a, b, c }, { layout, size: (live) => live });
  assert.throws(() => record(b), /multiple of 8/);
  assert.throws(() => record(gpu.tensor("b", [16, 16], "bf16"), "TN"), /B cannot be bf16/);
  assert.throws(() => record(gpu.tensor("b", [16, 32], "int8"), "TN"), /B cannot be int8/);
  assert.throws(() => gpu.tensor("b", [64, 12], "int8"), /multiple of 32/);
  assert.throws(() => record(gpu.tensor("b", [48])), /\[rows, columns\]/);
  const update = (u: number[], v: number[], layout: "NT" | "TN" = "NT") =>
    recordMatmul(
      program,
      { a, b: gpu.tensor("b", [4, 12]), c, low_rank: { u: gpu.tensor("u", u), v: gpu.tensor("v", v) } },
      { layout, size: (live) => live },
    );
  assert.throws(() => update([4, 2], [4, 3]), /u \[4,2\] and v \[4,3\] are no low-rank update/);
  assert.throws(() => update([3, 2], [4, 2]), /no low-rank update/);
  assert.throws(() => update([4, 2], [4, 2], "TN"), /no low-rank update/);
  type Epilogue = Partial<MatmulTensors & MatmulOptions<Sizes>>;
  const epilogue = ({ bias, residual, ...options }: Epilogue, k = 12) =>
    recordMatmul(program, {
      ...{ a: gpu.tensor("a", [4, k]), b: gpu.tensor("b", [4, k]), c },
      ...(bias && { bias }),
      ...(residual && { residual }),
    }, { layout: "NT", size: (live) => live, ...options });
  assert.throws(() => epilogue({ bias: gpu.tensor("bias", [3]) }), /bias \[3\] is no bias of it/);
  assert.throws(() => epilogue({ bias: gpu.tensor("bias", [1, 4]) }), /no bias of it/);
  assert.throws(() => epilogue({ bias: gpu.tensor("bias", [4], "u32") }), /binds bias of f32; bias is u32/);
  const residual = gpu.tensor("residual", [4, 4]);
  assert.throws(
    () => epilogue({ gate: "silu", accumulate: true }),
    /only one of gate, residual and accumulate/,
  );
  assert.throws(() => epilogue({ gate: "silu", residual }), /only one of/);
  assert.throws(() => epilogue({ accumulate: true, residual }), /only one of/);
  assert.throws(() => epilogue({ residual, n: 3 }), /residual \[4,4\] is no residual of all of C/);
  assert.throws(() => epilogue({ residual: gpu.tensor("residual", [4, 5]) }), /no residual of all of C/);
  assert.throws(
    () => epilogue({ residual: gpu.tensor("residual", [4, 4], "u32") }),
    /binds x of f32; residual is u32/,
  );
  assert.throws(() => epilogue({ gate: "silu" }, 65_540), /65540 steps pass 65536 with a bias or gates/);
  assert.throws(() => epilogue({ bias: gpu.tensor("bias", [4]) }, 65_540), /pass 65536/);
  record(gpu.tensor("b", [4, 12]));
  assert.throws(() => program.run({ m: 5, n: 4, k: 12 }), /5 x 4 x 12 passes 4 x 4 x 12/);
  gpu.close();
});

for (const design of DESIGNS) {
  const policy = { matmul: design, row_invariant: true };
  Deno.test(`recordMatmul() ${design} gives a row the same bits alone, among 17 and among 300`, async () => {
    const gpu = await Gpu.open({ device: "auto", policy });
    const [n, k] = [64, 1536];
    const { normals } = random(13);
    const x = normals(300 * k);
    const weights = { f32: normals(n * k), bf16: toStored(normals(n * k), "BF16") };
    const uv = { u: normals(300 * 8), v: normals(n * 8) };
    const first = async (layout: "NT" | "NN", storage: keyof typeof weights, rows: number, low: boolean) => {
      const shape = layout === "NT" ? [n, k] : [k, n];
      const b = gpu.tensor("b", shape, storage);
      gpu.write(b, weights[storage]);
      const a = gpu.upload("a", [rows, k], x.subarray(0, rows * k));
      const c = gpu.tensor("c", [rows, n]);
      const u = gpu.upload("u", [rows, 8], uv.u.subarray(0, rows * 8));
      const v = gpu.upload("v", layout === "NT" ? [n, 8] : [8, n], uv.v);
      const program = new Program<Sizes>(gpu, "rows");
      const tensors = { a, b, c, ...(low && { low_rank: { u, v } }) };
      recordMatmul(program, tensors, { layout, size: (live) => live });
      program.run({ m: rows, n, k });
      const row = (await gpu.readF32(c)).subarray(0, n);
      program.free();
      gpu.free(a, b, c, u, v);
      return row;
    };
    for (const layout of ["NT", "NN"] as const) {
      for (const [storage, low] of [["f32", false], ["f32", true], ["bf16", false]] as const) {
        const alone = await first(layout, storage, 1, low);
        for (const rows of [17, 300]) {
          assert.deepEqual(await first(layout, storage, rows, low), alone, `${layout} ${storage} ${rows}`);
        }
      }
    }
    gpu.policy = { ...gpu.policy, row_invariant: false };
    const [alone, among] = [await first("NT", "f32", 1, false), await first("NT", "f32", 17, false)];
    const equal = alone.every((value, i) => value === among[i]);
    assert.equal(equal, design !== "tiled", "few rows of tiles share their sums where nobody asks for this");
    gpu.close();
  });
}
