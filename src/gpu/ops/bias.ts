import sumRowsSource from "../../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";

/** d_bias [columns] += the sum of d_y [rows, columns] over the live rows, at most 262,140 of them. */
export function recordBiasGrad<L extends Live>(
  program: Program<L>,
  tensors: { readonly d_y: Tensor; readonly d_bias: Tensor },
  rows: (live: L) => number,
): void {
  const { d_y: x, d_bias: sums } = tensors;
  const columns = sums.shape[0]!;
  program.dispatch(defineKernel({ name: "sum_rows", source: sumRowsSource }), { x, sums }, (live) => ({
    params: { rows: rows(live), columns },
    invocations: columns,
  }));
}
