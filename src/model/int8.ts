/** Weights of 8 bits for a frozen base, in the blocks of shaders/lib/storage_int8.wgsl. */
import { STORAGE } from "../gpu/mod.ts";
import { FLOAT_BYTES, type FloatDtype, toF32 } from "./dtype.ts";

const { block: BLOCK, bytes_per_block: BLOCK_BYTES } = STORAGE.int8;
const LARGEST = 127;
/** The least normal f32: a device may take smaller ones for 0. */
const LEAST_SCALE = 2 ** -126;
/** Blocks that are decoded at a time. */
const STRIP = 2048;

/**
 * Rounds weights to int8: each block of 32 neighbours has the scale max |w| / 127, and w becomes the whole number nearest
 * to w / scale. A block whose scale would be subnormal becomes zeros.
 *
 * @param bytes Finite elements of `dtype`, little-endian, a whole number of blocks
 * @returns 36 bytes a block: the scale as f32, then the numbers, each in [-127, 127]
 */
export function quantizeInt8(bytes: Uint8Array, dtype: FloatDtype): Uint8Array<ArrayBuffer> {
  const blockBytes = BLOCK * FLOAT_BYTES[dtype];
  const blocks = bytes.byteLength / blockBytes;
  const out = new Uint8Array(blocks * BLOCK_BYTES);
  const scales = new Float32Array(out.buffer);
  const numbers = new Int8Array(out.buffer);
  for (let first = 0; first < blocks; first += STRIP) {
    const last = Math.min(first + STRIP, blocks);
    const weights = toF32(bytes.subarray(first * blockBytes, last * blockBytes), dtype);
    let at = 0;
    for (let block = first; block < last; block++, at += BLOCK) {
      let largest = 0;
      for (let i = at; i < at + BLOCK; i++) largest = Math.max(largest, Math.abs(weights[i]!));
      const scale = Math.fround(largest / LARGEST);
      if (scale < LEAST_SCALE) continue;
      scales[block * BLOCK_BYTES / 4] = scale;
      const perScale = 1 / scale;
      const to = block * BLOCK_BYTES + 4 - at;
      // Shifted into the positive, truncation rounds to the nearest.
      for (let i = at; i < at + BLOCK; i++) numbers[to + i] = (weights[i]! * perScale + 128.5 | 0) - 128;
    }
  }
  return out;
}
