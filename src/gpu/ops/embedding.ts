import source from "../../../shaders/embedding.wgsl" with { type: "text" };
import gradSource from "../../../shaders/embedding_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Tensors } from "../tensor.ts";
import { type Count, recordElements } from "./launch.ts";

/**
 * Tokens of a batch by distinct id, so that one invocation can sum a table row's gradient: ids [distinct], id_offsets
 * [distinct + 1], id_tokens [tokens]; see embedding_grad.wgsl.
 */
export type TokensById = Tensors<"ids" | "id_offsets" | "id_tokens">;

/** Which rows of a table an operation reads or writes, and how they count. */
export interface EmbeddingOptions {
  /** The table is the part of a larger one that begins at this row; 0 unless given. */
  readonly first_row?: number;
  /** Multiplies every row, as Gemma's sqrt(hidden) does; 1 unless given. */
  readonly scale?: number;
}

/** The same of the gradient. */
export interface EmbeddingGradOptions<L extends Live> extends EmbeddingOptions {
  /** How many distinct ids are live; `distinct` of the live numbers unless given. */
  readonly distinct?: Count<L>;
}

/**
 * Writes x [tokens, columns] = scale * table row for the tokens whose id lies in the table's rows first_row ..
 * first_row + rows - 1.
 */
export function recordEmbedding<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: Tensors<"token_ids" | "table" | "x">,
  { first_row = 0, scale = 1 }: EmbeddingOptions = {},
): void {
  recordTableRows(program, tensors, { first_row, scale, accumulate: 0 });
}

/**
 * Adds to x [tokens, columns] the table's row of every token's index, such as a learned position's; where the table is
 * split, those of its rows first_row ....
 */
export function recordAddRows<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: Tensors<"indices" | "table" | "x">,
  { first_row = 0, scale = 1 }: EmbeddingOptions = {},
): void {
  const { indices, ...rest } = tensors;
  recordTableRows(program, { token_ids: indices, ...rest }, { first_row, scale, accumulate: 1 });
}

function recordTableRows<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  { token_ids, table, x }: Tensors<"token_ids" | "table" | "x">,
  settings: { readonly first_row: number; readonly scale: number; readonly accumulate: 0 | 1 },
): void {
  const [row_count, columns] = table.shape as [number, number];
  const shader = { source, preludes: [STORAGE[table.dtype]], constants: { ALIGNED: 0 } };
  const kernel = { name: `embedding_${table.dtype}`, ...shader };
  recordElements(program, kernel, { token_ids, b: table, x }, ({ tokens }) => ({
    params: { tokens, columns, row_count, ...settings },
    elements: tokens * columns,
  }));
}

/**
 * Adds to d_table [rows, columns] the gradient of {@link recordEmbedding}, or of {@link recordAddRows} with its indices
 * in the place of ids.
 */
export function recordEmbeddingGrad<L extends Live & { readonly distinct: number }>(
  program: Program<L>,
  tensors: TokensById & Tensors<"d_x" | "d_table">,
  { first_row = 0, scale = 1, distinct = (live) => live.distinct }: EmbeddingGradOptions<L> = {},
): void {
  const [row_count, columns] = tensors.d_table.shape as [number, number];
  const kernel = defineKernel({ name: "embedding_grad", source: gradSource });
  program.dispatch(kernel, { ...tensors }, (live) => ({
    params: { distinct: distinct(live), columns, first_row, row_count, scale },
    invocations: distinct(live) * columns,
  }));
}
