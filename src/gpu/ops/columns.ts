import source from "../../../shaders/copy_columns.wgsl" with { type: "text" };
import type { Tensors } from "../tensor.ts";
import { recordMatrix, type RowOperation } from "./launch.ts";

/** Which neighbouring columns of the matrices are copied. */
interface ColumnOptions {
  readonly columns: number;
  /** 0 unless given. */
  readonly x_first?: number;
  /** 0 unless given. */
  readonly y_first?: number;
}

/** Copies columns of the live leading rows of a matrix x into those of another, y. */
export const recordCopyColumns: RowOperation<Tensors<"x" | "y">, ColumnOptions> = (
  program,
  tensors,
  { rows, columns, x_first = 0, y_first = 0 },
) => {
  const strides = { x_stride: tensors.x.shape[1]!, y_stride: tensors.y.shape[1]! };
  const kernel = { name: "copy_columns", source };
  recordMatrix(program, kernel, tensors, { rows, columns }, { x_first, y_first, ...strides });
};
