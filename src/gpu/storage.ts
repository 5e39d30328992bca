import bf16Loader from "../../shaders/lib/storage_bf16.wgsl" with { type: "text" };
import f16Loader from "../../shaders/lib/storage_f16.wgsl" with { type: "text" };
import f32Loader from "../../shaders/lib/storage_f32.wgsl" with { type: "text" };
import int8Loader from "../../shaders/lib/storage_int8.wgsl" with { type: "text" };

/** How numbers lie in a buffer. */
export interface StorageFormat {
  readonly dtype: string;
  /** Neighbours of a row that are stored together; a row is whole blocks. */
  readonly block: number;
  readonly bytes_per_block: number;
  /** What the rows of a matrix product's second operand must be a multiple of. */
  readonly row_multiple: number;
  /** What a shader sees in the buffer, and a reader in its copy: `u16` is two to a shader's u32, the low half first. */
  readonly words: "f32" | "u32" | "u16";
  /** WGSL that declares the operand `b` and loads numbers from it; null: never an operand. */
  readonly loader: string | null;
}

/** All formats, a row each. */
export const STORAGE = {
  f32: { dtype: "f32", block: 1, bytes_per_block: 4, row_multiple: 1, words: "f32", loader: f32Loader },
  u32: { dtype: "u32", block: 1, bytes_per_block: 4, row_multiple: 1, words: "u32", loader: null },
  bf16: { dtype: "bf16", block: 1, bytes_per_block: 2, row_multiple: 8, words: "u16", loader: bf16Loader },
  f16: { dtype: "f16", block: 1, bytes_per_block: 2, row_multiple: 8, words: "u16", loader: f16Loader },
  /** A block's scale, an f32, and its numbers. */
  int8: { dtype: "int8", block: 32, bytes_per_block: 36, row_multiple: 32, words: "u32", loader: int8Loader },
} as const satisfies Record<string, StorageFormat>;

/** A format by its name. */
export type TensorDtype = keyof typeof STORAGE;
