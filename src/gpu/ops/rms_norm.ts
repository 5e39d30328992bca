import source from "../../../shaders/rms_norm.wgsl" with { type: "text" };
import gradSource from "../../../shaders/rms_norm_grad.wgsl" with { type: "text" };
import weightGradSource from "../../../shaders/rms_norm_weight_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import { dtypeBytes, type Tensor, type Tensors } from "../tensor.ts";
import { chunked, chunkWidth, recordRows, type RowOperation } from "./launch.ts";

/** Tensors of an RMSNorm over rows: x and y [rows, columns], weight [columns], rstd [rows]. */
type RmsNormTensors = Tensors<"x" | "weight" | "rstd">;

/** How a norm's weight counts. */
interface RmsNormOptions {
  /** Added to the weight before it multiplies: 1 for Gemma, which stores the distance from 1; 0 unless given. */
  readonly offset?: 0 | 1;
}

/** Rows that one dispatch sums within the software driver's loop budget, see rms_norm_weight_grad.wgsl. */
const SUMMED_ROWS = 2 ** 17;

/** y = x * rstd * (offset + weight); keeps rstd for the backward. */
export const recordRmsNorm: RowOperation<
  RmsNormTensors & Tensors<"y">,
  RmsNormOptions & { readonly eps: number }
> = (program, tensors, { eps, rows, offset = 0 }) => {
  const columns = tensors.weight.shape[0]!;
  const { constants, preludes } = chunked(chunkWidth(tensors.weight));
  const kernel = { name: "rms_norm", source, preludes, constants: { ...constants, OFFSET: offset } };
  recordRows(program, kernel, { ...tensors }, { rows }, { columns, eps });
};

/** Adds the norm's input gradient to `d_x` and, where `d_weight` is given, the weight's to that. */
export const recordRmsNormGrad: RowOperation<
  RmsNormTensors & Tensors<"d_y" | "d_x"> & { readonly d_weight: Tensor | null },
  RmsNormOptions
> = (program, tensors, { rows, offset = 0 }) => {
  const { x, weight, rstd, d_y, d_x, d_weight } = tensors;
  const columns = weight.shape[0]!;
  const inputs = { x, weight, rstd, d_y, d_x };
  const { constants, preludes } = chunked(chunkWidth(weight));
  const shared = { preludes, constants: { ...constants, OFFSET: offset } };
  recordRows(program, { name: "rms_norm_grad", source: gradSource, ...shared }, inputs, { rows }, {
    columns,
  });
  if (!d_weight) return;
  const kernel = defineKernel({ name: "rms_norm_weight_grad", source: weightGradSource });
  const capacity = rstd.bytes / dtypeBytes("f32");
  for (let first_row = 0; first_row < capacity; first_row += SUMMED_ROWS) {
    program.dispatch(kernel, { x, rstd, d_y, d_weight }, (live) => ({
      params: { first_row, end_row: Math.min(rows(live), first_row + SUMMED_ROWS), columns },
      invocations: rows(live) > first_row ? columns : 0,
    }));
  }
};
