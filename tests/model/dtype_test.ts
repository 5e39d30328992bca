import assert from "node:assert/strict";
import fc from "fast-check";
import { findNonFinite, type FloatDtype, fromF32, toF32 } from "../../src/model/dtype.ts";

/** Value of a half by the definition: sign, `exponentBits` of exponent, the rest mantissa. */
function definition(bits: number, exponentBits: number): number {
  const mantissaBits = 15 - exponentBits;
  const sign = bits >> 15 ? -1 : 1;
  const exponent = (bits >> mantissaBits) & ((1 << exponentBits) - 1);
  const fraction = (bits & ((1 << mantissaBits) - 1)) / (1 << mantissaBits);
  const bias = (1 << (exponentBits - 1)) - 1;
  if (exponent === (1 << exponentBits) - 1) return fraction === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * fraction * 2 ** (1 - bias) : sign * (1 + fraction) * 2 ** (exponent - bias);
}

const HALVES: readonly [FloatDtype, number][] = [["F16", 5], ["BF16", 8]];
const everyHalf = Uint16Array.from({ length: 65536 }, (_, bits) => bits);

for (const [dtype, exponentBits] of HALVES) {
  Deno.test(`toF32() decodes every ${dtype}`, () => {
    const values = toF32(new Uint8Array(everyHalf.buffer), dtype);
    for (const bits of everyHalf) {
      assert.ok(Object.is(values[bits], definition(bits, exponentBits)), `${bits}`);
    }
  });

  Deno.test(`fromF32() gives back every ${dtype} and keeps NaN a NaN`, () => {
    const halves = new Uint16Array(fromF32(toF32(new Uint8Array(everyHalf.buffer), dtype), dtype).buffer);
    for (const bits of everyHalf) {
      if (Number.isNaN(definition(bits, exponentBits))) {
        assert.ok(Number.isNaN(definition(halves[bits]!, exponentBits)));
      } else assert.equal(halves[bits], bits);
    }
  });

  Deno.test(`fromF32() rounds to the nearest ${dtype}, ties to even`, () => {
    const largest = exponentBits === 5 ? 0x7bff : 0x7f7f;
    fc.assert(fc.property(fc.integer({ min: 0, max: largest - 1 }), fc.boolean(), (bits, negative) => {
      const [low, high] = [definition(bits, exponentBits), definition(bits + 1, exponentBits)];
      const even = bits % 2 === 0 ? bits : bits + 1;
      const sign = negative ? -1 : 1;
      const middle = (low + high) / 2;
      const f32 = [middle, low + (high - low) / 4, low + (high - low) * 3 / 4];
      // The smallest bf16 subnormals have no f32 between them and their quarters.
      fc.pre(f32.every((value) => Math.fround(value) === value));
      const got = new Uint16Array(fromF32(Float32Array.from(f32, (value) => sign * value), dtype).buffer);
      assert.deepEqual([...got].map((half) => half & 0x7fff), [even, bits, bits + 1]);
      assert.ok(got.every((half) => half >> 15 === Number(negative)));
    }));
  });

  Deno.test(`fromF32() turns what is too large for ${dtype} into infinity`, () => {
    const halves = new Uint16Array(
      fromF32(Float32Array.of(3.4e38, -3.4028234663852886e38, Infinity), dtype).buffer,
    );
    const infinity = dtype === "F16" ? 0x7c00 : 0x7f80;
    assert.equal(halves[1], infinity | 0x8000);
    assert.equal(halves[2], infinity);
  });
}

Deno.test("fromF32() keeps a NaN whose payload is in the low half", () => {
  const nan = new Float32Array(Uint32Array.of(0x7f800001, 0xffffffff).buffer);
  const [quiet, negative] = new Uint16Array(fromF32(nan, "BF16").buffer);
  assert.ok(Number.isNaN(definition(quiet!, 8)) && Number.isNaN(definition(negative!, 8)));
});

Deno.test("toF32() reads bytes that are not aligned", () => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const bytes = fromF32(Float32Array.of(1, -2, 0.5), dtype);
    const shifted = new Uint8Array(bytes.length + 1);
    shifted.set(bytes, 1);
    assert.deepEqual(toF32(shifted.subarray(1), dtype), Float32Array.of(1, -2, 0.5));
  }
});

Deno.test("toF32() refuses half an element", () => {
  assert.throws(() => toF32(new Uint8Array(3), "BF16"), RangeError);
});

Deno.test("findNonFinite() finds the first NaN or infinity of any sign, and nothing else", () => {
  for (const dtype of ["F32", "F16", "BF16"] as const) {
    const large = dtype === "F16" ? 65504 : 3.38e38;
    const fine = Float32Array.of(0, -0, 1e-40, large, -large);
    assert.equal(findNonFinite(fromF32(fine, dtype), dtype), -1, dtype);
    for (const bad of [NaN, Infinity, -Infinity]) {
      assert.equal(findNonFinite(fromF32(Float32Array.of(...fine, bad, 1, NaN), dtype), dtype), 5, dtype);
    }
  }
  assert.equal(findNonFinite(new Uint8Array(0), "F32"), -1);
});
