/** CRC-32 as node:zlib has it, which is loaded by the first who asks: a start must not wait for it. */

/** The sum of some bytes behind those of an earlier sum. */
export type Crc32 = (data: string | Uint8Array, before?: number) => number;

/** Gigabytes a second, where XXH64 in WebAssembly makes 0.9. */
export async function loadCrc32(): Promise<Crc32> {
  return (await import("node:zlib")).crc32;
}
