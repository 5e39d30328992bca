import source from "../../../shaders/sum_rows.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Tensors } from "../tensor.ts";
import type { RowOperation } from "./launch.ts";

/** Adds the live leading rows of x [rows, columns], at most 262,140, to sums [columns] or [1, columns]. */
export const recordSumRows: RowOperation<Tensors<"x" | "sums">> = (program, tensors, { rows }) => {
  const columns = tensors.sums.shape.at(-1)!;
  program.dispatch(defineKernel({ name: "sum_rows", source }), tensors, (live) => ({
    params: { rows: rows(live), columns },
    invocations: columns,
  }));
};
