import source from "../../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import type { RowOptions } from "./launch.ts";

/** Adds the live leading rows of x [rows, columns], at most 262,140, to sums [columns] or [1, columns]. */
export function recordSumRows<L extends Live>(
  program: Program<L>,
  tensors: Tensors<"x" | "sums">,
  { rows }: RowOptions<L>,
): void {
  const columns = tensors.sums.shape.at(-1)!;
  program.dispatch(defineKernel({ name: "sum_rows", source }), tensors, (live) => ({
    params: { rows: rows(live), columns },
    invocations: columns,
  }));
}
