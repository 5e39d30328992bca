import source from "../../../shaders/embedding.wgsl" with { type: "text" };
import gradSource from "../../../shaders/embedding_grad.wgsl" with { type: "text" };
import elements from "../../../shaders/elements.wgsl" with { type: "text" };
import storageBf16 from "../../../shaders/storage_bf16.wgsl" with { type: "text" };
import storageF16 from "../../../shaders/storage_f16.wgsl" with { type: "text" };
import storageF32 from "../../../shaders/storage_f32.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import { fold, type Live, type Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { elementWorkgroups } from "./launch.ts";

/** Tokens of a batch by distinct id, so that one invocation can sum a table row's gradient: see embedding_grad.wgsl. */
export interface TokensById {
  /** [distinct] */
  readonly ids: Tensor;
  /** [distinct + 1] */
  readonly id_offsets: Tensor;
  /** [tokens] */
  readonly id_tokens: Tensor;
}

/** Writes x [tokens, columns] for the tokens whose id lies in the table's rows first_row .. first_row + rows - 1. */
export function recordEmbedding<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: { readonly token_ids: Tensor; readonly table: Tensor; readonly x: Tensor },
  first_row: number,
): void {
  const { token_ids, table, x } = tensors;
  const [row_count, columns] = table.shape as [number, number];
  const storage = table.dtype === "bf16" ? storageBf16 : table.dtype === "f16" ? storageF16 : storageF32;
  const kernel = defineKernel({
    name: `embedding_${table.dtype}`,
    source,
    preludes: [elements, storage],
    constants: { ALIGNED: 0 },
  });
  program.dispatch(kernel, { token_ids, b: table, x }, ({ tokens }) => ({
    params: { tokens, columns, first_row, row_count },
    workgroups: elementWorkgroups(tokens * columns),
  }));
}

/** Adds to d_table [rows, columns] the gradient of {@link recordEmbedding}. */
export function recordEmbeddingGrad<L extends Live & { readonly distinct: number }>(
  program: Program<L>,
  tensors: TokensById & { readonly d_x: Tensor; readonly d_table: Tensor },
  first_row: number,
): void {
  const [row_count, columns] = tensors.d_table.shape as [number, number];
  program.dispatch(
    defineKernel({ name: "embedding_grad", source: gradSource }),
    { ...tensors },
    ({ distinct }) => ({
      params: { distinct, columns, first_row, row_count },
      workgroups: fold(Math.ceil(distinct * columns / 64)),
    }),
  );
}
