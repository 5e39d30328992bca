import source from "../../../shaders/gather_rows.wgsl" with { type: "text" };
import gradSource from "../../../shaders/gather_rows_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import { recordMatrix } from "./launch.ts";

/** y[r] = x[indices[r]] for the live `rows`; x [tokens, columns], y [rows, columns]. */
export function recordGatherRows<L extends Live & { readonly rows: number }>(
  program: Program<L>,
  tensors: Tensors<"indices" | "x" | "y">,
): void {
  const columns = tensors.y.shape[1]!;
  recordMatrix(program, { name: "gather_rows", source }, tensors, { rows: ({ rows }) => rows, columns });
}

/** d_x[t] = sum of d_y over the rows gathered from t, which token_rows and row_list name (see pack.ts); overwrites d_x. */
export function recordGatherRowsGrad<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: Tensors<"token_rows" | "row_list" | "d_y" | "d_x">,
): void {
  const columns = tensors.d_x.shape[1]!;
  program.dispatch(defineKernel({ name: "gather_rows_grad", source: gradSource }), tensors, ({ tokens }) => ({
    params: { tokens, columns },
    invocations: tokens * columns,
  }));
}
