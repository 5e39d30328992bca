import assert from "node:assert/strict";
import { type FloatDtype, fromF32, toF32 } from "../../src/model/dtype.ts";
import { quantizeInt8 } from "../../src/model/int8.ts";
import { random } from "../helpers/random.ts";
import { dequantizeInt8 } from "../reference/int8.ts";

/** Quantises one block of f32. @returns its scale and its numbers */
function blockOf(weights: readonly number[]): { scale: number; numbers: number[] } {
  const values = new Float32Array(32);
  values.set(weights);
  const bytes = quantizeInt8(fromF32(values, "F32"), "F32");
  assert.equal(bytes.length, 36);
  return {
    scale: new DataView(bytes.buffer).getFloat32(0, true),
    numbers: [...new Int8Array(bytes.buffer, 4)],
  };
}

for (const dtype of ["F32", "F16", "BF16"] satisfies FloatDtype[]) {
  Deno.test(`quantizeInt8() is off by half a scale at most, from ${dtype}`, () => {
    // more blocks than are decoded at a time, each of another size
    const source = random(1);
    const drawn = source.normals(5000 * 32).map((value, i) => value * 2 ** (Math.floor(i / 32) % 20 - 10));
    const bytes = fromF32(drawn, dtype);
    const weights = toF32(bytes, dtype);
    const quantized = quantizeInt8(bytes, dtype);
    assert.equal(quantized.length, 5000 * 36);
    const back = dequantizeInt8(quantized);
    for (let block = 0; block < 5000; block++) {
      const range = [32 * block, 32 * (block + 1)] as const;
      const largest = Math.max(...weights.subarray(...range).map(Math.abs));
      const bound = largest / 127 / 2 * (1 + 1e-5);
      for (let i = range[0]; i < range[1]; i++) {
        assert.ok(Math.abs(back[i]! - weights[i]!) <= bound, `${weights[i]} became ${back[i]}`);
      }
    }
  });
}

Deno.test("quantizeInt8() keeps the largest of a block, of either sign", () => {
  for (const largest of [1, 0.1, 3.4e38, 1 / 3, 1e-30]) {
    for (const sign of [1, -1]) {
      const { scale, numbers } = blockOf([0, sign * largest, -sign * largest, largest / 254]);
      assert.deepEqual(numbers.slice(0, 3), [0, sign * 127, -sign * 127]);
      assert.ok(Math.abs(127 * scale / Math.fround(largest) - 1) < 1e-6);
    }
  }
});

Deno.test("quantizeInt8() rounds to the nearest, down as up", () => {
  const { numbers } = blockOf([127, 2.4, 2.6, -2.4, -2.6, 126.6, -126.6, 0.4, -0.4]);
  assert.deepEqual(numbers.slice(0, 9), [127, 2, 3, -2, -3, 127, -127, 0, 0]);
});

Deno.test("quantizeInt8() makes zeros of a block of zeros, and of one whose scale would be subnormal", () => {
  const nothing = { scale: 0, numbers: Array(32).fill(0) };
  assert.deepEqual(blockOf([0, -0]), nothing);
  assert.deepEqual(blockOf([1e-45, -1e-40, 126 * 2 ** -126]), nothing);
  const least = blockOf([127 * 2 ** -126, -(2 ** -126)]);
  assert.deepEqual([least.scale, ...least.numbers.slice(0, 2)], [2 ** -126, 127, -1]);
});

Deno.test("quantizeInt8() reads bytes that lie at an odd place", () => {
  const bytes = fromF32(random(2).normals(64), "BF16");
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  assert.deepEqual(quantizeInt8(shifted.subarray(1), "BF16"), quantizeInt8(bytes, "BF16"));
});
