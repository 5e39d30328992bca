/** Bulk conversion between the float types that weights are stored in, and f32. Bytes are little-endian, as every
 * platform of Deno is and as safetensors asks. */

/** Float types that weights and adapters may have, by safetensors' names. */
export type FloatDtype = "F32" | "F16" | "BF16";

/** The same by the names of requests. */
export const SAVE_DTYPES = ["f32", "bf16", "f16"] as const;

/** A name of {@link SAVE_DTYPES} as files have it; undefined where none is given. */
export function savedAs(name: typeof SAVE_DTYPES[number] | null | undefined): FloatDtype | undefined {
  return name?.toUpperCase() as FloatDtype | undefined;
}

/** Bytes of one element. */
export const FLOAT_BYTES: Readonly<Record<FloatDtype, number>> = { F32: 4, F16: 2, BF16: 2 };

/** Whether a safetensors dtype is one that weights may have. */
export function isFloatDtype(dtype: string): dtype is FloatDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/**
 * Decodes stored weights to f32, exactly.
 *
 * @param bytes Elements of `dtype`, little-endian
 * @returns One f32 an element; shares memory with `bytes` where they are aligned F32
 * @throws RangeError where the bytes are no whole number of elements
 */
export function toF32(bytes: Uint8Array, dtype: FloatDtype): Float32Array<ArrayBuffer> {
  if (dtype === "F32") {
    const { buffer, offset, length } = aligned(bytes, 4);
    return new Float32Array(buffer, offset, length);
  }
  const { buffer, offset, length } = aligned(bytes, 2);
  if (dtype === "F16") return new Float32Array(new Float16Array(buffer, offset, length));
  const halves = new Uint16Array(buffer, offset, length);
  const values = new Uint32Array(length);
  for (let i = 0; i < length; i++) values[i] = halves[i]! << 16;
  return new Float32Array(values.buffer);
}

/**
 * Encodes f32 values, rounding to the nearest and ties to even. What is too large becomes infinity; NaN stays NaN.
 *
 * @returns The elements' bytes, little-endian; shares memory with `values` for F32
 */
export function fromF32(values: Float32Array, dtype: FloatDtype): Uint8Array<ArrayBuffer> {
  if (dtype === "F32") {
    const { buffer, offset, length } = aligned(
      new Uint8Array(values.buffer, values.byteOffset, values.byteLength),
      4,
    );
    return new Uint8Array(buffer, offset, length * 4);
  }
  if (dtype === "F16") return new Uint8Array(new Float16Array(values).buffer);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!;
    // A NaN whose payload lies in the low half alone would round to infinity: keep it NaN by its quiet bit.
    const nan = (x & 0x7fffffff) > 0x7f800000;
    halves[i] = nan ? (x >>> 16) | 0x40 : (x + 0x7fff + ((x >>> 16) & 1)) >>> 16;
  }
  return new Uint8Array(halves.buffer);
}

/**
 * Finds the first NaN or infinity.
 *
 * @param bytes Elements of `dtype`, little-endian
 * @returns Its element index, or -1
 * @throws RangeError where the bytes are no whole number of elements
 */
export function findNonFinite(bytes: Uint8Array, dtype: FloatDtype): number {
  // An exponent of all ones is NaN or infinity.
  if (dtype === "F32") {
    const { buffer, offset, length } = aligned(bytes, 4);
    const words = new Uint32Array(buffer, offset, length);
    for (let i = 0; i < length; i++) if ((words[i]! & 0x7f800000) === 0x7f800000) return i;
    return -1;
  }
  const exponent = dtype === "F16" ? 0x7c00 : 0x7f80;
  const { buffer, offset, length } = aligned(bytes, 2);
  const halves = new Uint16Array(buffer, offset, length);
  for (let i = 0; i < length; i++) if ((halves[i]! & exponent) === exponent) return i;
  return -1;
}

/** The same bytes where a typed array of `width`-byte elements can be laid over them; copied only if misaligned. */
function aligned(bytes: Uint8Array, width: number): { buffer: ArrayBuffer; offset: number; length: number } {
  if (bytes.byteLength % width !== 0) {
    throw new RangeError(`${bytes.byteLength} bytes are no whole number of ${width}-byte elements.`);
  }
  const length = bytes.byteLength / width;
  if (bytes.buffer instanceof ArrayBuffer && bytes.byteOffset % width === 0) {
    return { buffer: bytes.buffer, offset: bytes.byteOffset, length };
  }
  return { buffer: new Uint8Array(bytes).buffer, offset: 0, length };
}
