import source from "../../../shaders/copy_columns.wgsl" with { type: "text" };
import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { recordElements } from "./launch.ts";

/** Neighbouring columns of a matrix [rows, columns]. */
export interface Columns {
  readonly of: Tensor;
  /** 0 unless given. */
  readonly first?: number;
}

/** Copies `count` columns of the live leading rows of one matrix into another. */
export function recordCopyColumns<L extends Live>(
  program: Program<L>,
  x: Columns,
  y: Columns,
  count: number,
  rows: (live: L) => number,
): void {
  recordElements(program, { name: "copy_columns", source }, { x: x.of, y: y.of }, (live) => ({
    params: {
      rows: rows(live),
      columns: count,
      x_stride: x.of.shape[1]!,
      x_first: x.first ?? 0,
      y_stride: y.of.shape[1]!,
      y_first: y.first ?? 0,
    },
    elements: rows(live) * count,
  }));
}
