import source from "../../../shaders/add_bias.wgsl" with { type: "text" };
import sumRowsSource from "../../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { elementKernel, elementWorkgroups } from "./launch.ts";

/** y [rows, columns] += bias [columns], in every live row. */
export function recordAddBias<L extends Live>(
  program: Program<L>,
  tensors: { readonly y: Tensor; readonly bias: Tensor },
  rows: (live: L) => number,
): void {
  const columns = tensors.bias.shape[0]!;
  program.dispatch(elementKernel("add_bias", source), { ...tensors }, (live) => ({
    params: { rows: rows(live), columns },
    workgroups: elementWorkgroups(rows(live) * columns),
  }));
}

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
    workgroups: [Math.ceil(columns / 64), 1, 1],
  }));
}
