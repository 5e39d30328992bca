import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Tensors } from "../tensor.ts";
import type { Product } from "./matmul.ts";
import source from "../../../shaders/software/pack_panels.wgsl" with { type: "text" };

/** Numbers in the panels into which columns of B are copied. */
export const PANELS = 2 ** 20;
/** Rows of C that pay for the copy. */
const LEAST_M = 256;
/** Bytes of a core's second cache that a workgroup's columns of B must fill. */
const SECOND_CACHE = 2 ** 21;

/**
 * How many columns of B are copied at a time, side by side those that a workgroup reads, for the workgroups along m that
 * read them after it: they would not find them in the second cache. Rows that lie a multiple of a power of two apart leave
 * the sets between them empty, as if each were so long.
 *
 * @param most sizes that the operands have
 * @param columns those of one workgroup
 * @returns 0 where a copy does not pay
 */
export function panelColumns<L extends Live>(
  { layout, b }: Product<L>,
  most: { readonly m: number; readonly k: number },
  columns: number,
): number {
  const stride = 4 * b.shape[1]!;
  const rowBytes = Math.max(4 * columns, stride & -stride);
  const pays = layout !== "NT" && b.dtype === "f32" && columns >= 64 && most.m >= LEAST_M &&
    rowBytes * most.k >= SECOND_CACHE && columns * most.k <= PANELS;
  return pays ? Math.floor(PANELS / (columns * most.k)) * columns : 0;
}

/** Records the copy of B's columns [first, last) into panels of `columns`. */
export function recordPacking<L extends Live>(
  program: Program<L>,
  tensors: Tensors<"b" | "panels">,
  { size, columns, first, last }: Pick<Product<L>, "size"> & {
    readonly columns: number;
    readonly first: number;
    readonly last: number;
  },
): void {
  const kernel = defineKernel({
    name: `pack_panels_${columns}`,
    source,
    preludes: [STORAGE.f32],
    constants: { ALIGNED: 1, COLUMNS: columns },
  });
  const copied = 4 * kernel.workgroup[0]; // an invocation copies 4 columns of 4 rows
  program.dispatch(kernel, tensors, (live) => {
    const { k } = size(live);
    const params = { k, first, last, b_stride: tensors.b.shape[1]! };
    return { params, workgroups: [Math.ceil((last - first) / copied), Math.ceil(k / 4), 1] };
  });
}
