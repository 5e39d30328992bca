import source from "../../../shaders/gather_rows.wgsl" with { type: "text" };
import gradSource from "../../../shaders/gather_rows_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { recordElements } from "./launch.ts";

/** y[r] = x[indices[r]] for the live `rows`; x [tokens, columns], y [rows, columns]. */
export function recordGatherRows<L extends Live & { readonly rows: number }>(
  program: Program<L>,
  tensors: { readonly indices: Tensor; readonly x: Tensor; readonly y: Tensor },
): void {
  const columns = tensors.y.shape[1]!;
  recordElements(program, { name: "gather_rows", source }, tensors, ({ rows }) => ({
    params: { rows, columns },
    elements: rows * columns,
  }));
}

/** d_x[t] = sum of d_y over the rows gathered from t, which token_rows and row_list name (see pack.ts); overwrites d_x. */
export function recordGatherRowsGrad<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: {
    readonly token_rows: Tensor;
    readonly row_list: Tensor;
    readonly d_y: Tensor;
    readonly d_x: Tensor;
  },
): void {
  const columns = tensors.d_x.shape[1]!;
  program.dispatch(defineKernel({ name: "gather_rows_grad", source: gradSource }), tensors, ({ tokens }) => ({
    params: { tokens, columns },
    invocations: tokens * columns,
  }));
}
