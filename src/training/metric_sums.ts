import sumRowsSource from "../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel, type Live, type Program, type Tensor } from "../gpu/mod.ts";

/** Adds the live leading rows of x [rows, columns] to sums [1, columns]. */
export function recordMetricSums<L extends Live>(
  program: Program<L>,
  { x, sums }: { readonly x: Tensor; readonly sums: Tensor },
  rows: (live: L) => number,
): void {
  const columns = sums.shape[1]!;
  program.dispatch(defineKernel({ name: "sum_rows", source: sumRowsSource }), { x, sums }, (live) => ({
    params: { rows: rows(live), columns },
    workgroups: [Math.ceil(columns / 64), 1, 1],
  }));
}
