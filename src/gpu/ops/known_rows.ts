import gatherSource from "../../../shaders/gather_known_rows.wgsl" with { type: "text" };
import scatterSource from "../../../shaders/scatter_rows.wgsl" with { type: "text" };
import type { Tensors } from "../tensor.ts";
import { recordMatrix, type RowOperation } from "./launch.ts";

/** From here on a source of {@link recordGatherKnownRows} tells a row of `known`. */
export const KNOWN = 2 ** 31;

/** y[r] = x[sources[r]], or known[sources[r] - KNOWN], for so many live rows; all have y's columns. */
export const recordGatherKnownRows: RowOperation<Tensors<"sources" | "x" | "known" | "y">> = (
  program,
  tensors,
  { rows },
) => {
  const columns = tensors.y.shape[1]!;
  recordMatrix(program, { name: "gather_known_rows", source: gatherSource }, tensors, { rows, columns });
};

/** y[to] = x[from] for so many live pairs (from, to) of `moves`, u32 [rows, 2]; no two rows go to the same place. */
export const recordScatterRows: RowOperation<Tensors<"moves" | "x" | "y">> = (program, tensors, { rows }) => {
  const columns = tensors.y.shape[1]!;
  recordMatrix(program, { name: "scatter_rows", source: scatterSource }, tensors, { rows, columns });
};
