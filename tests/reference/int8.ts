/** The weights that int8 bytes stand for, by shaders/lib/storage_int8.wgsl. */
export function dequantizeInt8(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 36 * 32 }, (_, i) => {
    const block = Math.floor(i / 32) * 36;
    return view.getFloat32(block, true) * view.getInt8(block + 4 + i % 32);
  });
}
