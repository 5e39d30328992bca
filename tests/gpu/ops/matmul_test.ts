import assert from "node:assert/strict";
import { Gpu, type MatmulDesign, Program, type Tensor } from "../../../src/gpu/mod.ts";
import { type Matmul, recordMatmul } from "../../../src/gpu/ops/matmul.ts";
import { MATMUL_TILES, tileKey, type TileName } from "../../../src/gpu/ops/matmul_tiles.ts";
import { assertClose } from "../../helpers/assert_close.ts";
import { type Random, random } from "../../helpers/random.ts";
import { matmul, type MatmulLayout } from "../../reference/linear.ts";

const device = await Gpu.open({ device: "auto" });
const DESIGNS: readonly MatmulDesign[] = device.subgroupSize === 8
  ? ["subgroup", "direct", "tiled"]
  : ["direct", "tiled"];
device.close();
const LAYOUTS = ["NT", "NN", "TN"] as const;
type Storage = "f32" | "f16" | "bf16";
type Sizes = { m: number; n: number; k: number };

interface Case {
  readonly layout: Matmul<Sizes>["layout"];
  readonly storage?: Storage;
  readonly live: Sizes;
  /** Sizes of the tensors; the live ones unless given. */
  readonly full?: Sizes;
  readonly alpha?: number;
  readonly accumulate?: boolean;
}

/** Runs one product and compares all of C, what must stay untouched included; the operands' unused parts hold NaN. */
async function check(gpu: Gpu, source: Random, testCase: Case): Promise<void> {
  const { layout, storage = "f32", live, full = live, alpha = 1, accumulate = false } = testCase;
  const fullShapes = shapes(layout, full);
  const liveShapes = shapes(layout, live);
  const aLive = source.normals(live.m * live.k);
  const bLive = source.normals(live.n * live.k).map((value) => toF32(fromF32(value, storage), storage));
  const before = source.normals(full.m * full.n);

  const a = gpu.upload("a", fullShapes.a, embed(aLive, liveShapes.a, fullShapes.a));
  const b = packedTensor(gpu, fullShapes.b, embed(bLive, liveShapes.b, fullShapes.b), storage);
  const c = gpu.upload("c", [full.m, full.n], before);
  const program = new Program<Sizes>(gpu, "matmul");
  recordMatmul(gpu, program, { layout, a, b, c, size: (sizes) => sizes, alpha, accumulate });
  program.run(live);
  const actual = await gpu.readF32(c);
  program.free();
  gpu.free(a, b, c);

  const product = matmul(layout.toLowerCase() as MatmulLayout, aLive, bLive, live);
  const expected = new Float64Array(live.m * live.n);
  const got = new Float64Array(live.m * live.n);
  for (let row = 0; row < full.m; row++) {
    for (let column = 0; column < full.n; column++) {
      const at = row * full.n + column;
      if (row < live.m && column < live.n) {
        expected[row * live.n + column] = alpha * product[row * live.n + column]! +
          (accumulate ? before[at]! : 0);
        got[row * live.n + column] = actual[at]!;
      } else {
        assert.equal(actual[at], before[at], `C[${row}, ${column}] lies outside and must stay`);
      }
    }
  }
  const name = `${gpu.matmul} ${JSON.stringify(testCase)}`;
  assertClose(got, expected, { rtol: 1e-5, name, shape: [live.m, live.n] });
}

function shapes(layout: Case["layout"], { m, n, k }: Sizes): { a: [number, number]; b: [number, number] } {
  return { a: layout === "TN" ? [k, m] : [m, k], b: layout === "NT" ? [n, k] : [k, n] };
}

/** The live values in the upper left corner of a larger array that is NaN elsewhere. */
function embed(values: Float32Array, live: [number, number], full: [number, number]): Float32Array {
  const out = new Float32Array(full[0] * full[1]).fill(NaN);
  for (let row = 0; row < live[0]; row++) {
    out.set(values.subarray(row * live[1], (row + 1) * live[1]), row * full[1]);
  }
  return out;
}

const bits = new DataView(new ArrayBuffer(4));

/** Rounds to the storage's bits, toward zero for bf16; the product is compared with what is stored. */
function fromF32(value: number, storage: Storage): number {
  if (storage === "f16") {
    bits.setFloat16(0, value);
    return bits.getUint16(0);
  }
  bits.setFloat32(0, value);
  return storage === "bf16" ? bits.getUint16(0) : bits.getUint32(0);
}

function toF32(stored: number, storage: Storage): number {
  if (storage === "f16") {
    bits.setUint16(0, stored);
    return bits.getFloat16(0);
  }
  bits.setUint32(0, storage === "bf16" ? stored << 16 : stored);
  return bits.getFloat32(0);
}

function packedTensor(gpu: Gpu, shape: readonly number[], values: Float32Array, storage: Storage): Tensor {
  if (storage === "f32") return gpu.upload("b", shape, values);
  const tensor = gpu.tensor("b", shape, storage);
  gpu.write(tensor, Uint16Array.from(values, (value) => fromF32(value, storage)));
  return tensor;
}

for (const design of DESIGNS) {
  const open = () => Gpu.open({ device: "auto", matmul: design });

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

    Deno.test(`recordMatmul() ${design} ${layout} reads and writes nothing outside the live sizes`, async () => {
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
    });

    Deno.test(`recordMatmul() ${design} ${layout} sums past the driver's budget of loop iterations`, async () => {
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
    for (const storage of ["f16", "bf16"] as const) {
      Deno.test(`recordMatmul() ${design} ${layout} reads ${storage}`, async () => {
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

Deno.test("recordMatmul() gives the same digits with every tile", async () => {
  const gpu = await Gpu.open({ device: "auto", matmul: "tiled" });
  const sizes = { m: 132, n: 68, k: 36 };
  for (const layout of LAYOUTS) {
    const digits = new Set<string>();
    for (const tile of Object.keys(MATMUL_TILES) as TileName[]) {
      gpu.measuredTiles = { [tileKey(layout, "small")]: tile };
      await check(gpu, random(6), { layout, live: { m: 131, n: 67, k: 35 }, full: sizes, accumulate: true });
      const { a, b } = shapes(layout, sizes);
      const program = new Program<Sizes>(gpu, "matmul");
      const c = gpu.tensor("c", [sizes.m, sizes.n]);
      const operand = (shape: [number, number]) =>
        gpu.upload("x", shape, random(7).normals(shape[0] * shape[1]));
      recordMatmul(gpu, program, { layout, a: operand(a), b: operand(b), c, size: (live) => live });
      assert.ok(program.dispatches(sizes)[0]!.kernel.includes(`_${tile}`));
      program.run(sizes);
      digits.add((await gpu.readF32(c)).join());
    }
    assert.equal(digits.size, 1);
  }
  gpu.close();
});

Deno.test("recordMatmul() tiled takes large tiles where they keep a GPU busy", async () => {
  const gpu = await Gpu.open({ device: "auto", matmul: "tiled" });
  for (const layout of LAYOUTS) await check(gpu, random(5), { layout, live: { m: 1796, n: 1764, k: 20 } });
  gpu.close();
});

Deno.test("recordMatmul() refuses tensors that do not fit", async () => {
  const gpu = await Gpu.open({ device: "auto" });
  const program = new Program<Sizes>(gpu, "refused");
  const a = gpu.tensor("a", [4, 12]);
  const b = gpu.tensor("b", [4, 12], "bf16");
  const c = gpu.tensor("c", [4, 4]);
  const record = (b: Tensor, layout: "NT" | "TN" = "NT") =>
    recordMatmul(gpu, program, { layout, a, b, c, size: (live) => live });
  assert.throws(() => record(b), /multiple of 8/);
  assert.throws(() => record(gpu.tensor("b", [16, 16], "bf16"), "TN"), /B cannot be bf16/);
  assert.throws(() => record(gpu.tensor("b", [48])), /\[rows, columns\]/);
  record(gpu.tensor("b", [4, 12]));
  assert.throws(() => program.run({ m: 5, n: 4, k: 12 }), /5 x 4 x 12 passes 4 x 4 x 12/);
  gpu.close();
});
