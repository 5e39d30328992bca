import source from "../../../shaders/rms_norm.wgsl" with { type: "text" };
import gradSource from "../../../shaders/rms_norm_grad.wgsl" with { type: "text" };
import weightGradSource from "../../../shaders/rms_norm_weight_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Live, Program } from "../program.ts";
import { dtypeBytes, type Tensor, type Tensors } from "../tensor.ts";
import { chunked, chunkWidth, recordRows, type RowOptions } from "./launch.ts";

/** Tensors of an RMSNorm over rows: x and y [rows, columns], weight [columns], rstd [rows]. */
export interface RmsNormTensors {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly rstd: Tensor;
}

/** Live rows, and how a norm's weight counts. */
export interface RmsNormOptions<L extends Live> extends RowOptions<L> {
  /** Added to the weight before it multiplies: 1 for Gemma, which stores the distance from 1; 0 unless given. */
  readonly offset?: 0 | 1;
}

/** Rows that one dispatch sums within the software driver's loop budget, see rms_norm_weight_grad.wgsl. */
const SUMMED_ROWS = 2 ** 17;

/** y = x * rstd * (offset + weight); keeps rstd for the backward. */
export function recordRmsNorm<L extends Live>(
  program: Program<L>,
  tensors: RmsNormTensors & Tensors<"y">,
  { eps, rows, offset = 0 }: RmsNormOptions<L> & { readonly eps: number },
): void {
  const columns = tensors.weight.shape[0]!;
  const { constants, preludes } = chunked(chunkWidth(tensors.weight));
  const kernel = { name: "rms_norm", source, preludes, constants: { ...constants, OFFSET: offset } };
  recordRows(program, kernel, { ...tensors }, { rows }, { columns, eps });
}

/** Adds the norm's input gradient to `d_x` and, where `d_weight` is given, the weight's to that. */
export function recordRmsNormGrad<L extends Live>(
  program: Program<L>,
  tensors: RmsNormTensors & { readonly d_y: Tensor; readonly d_x: Tensor; readonly d_weight: Tensor | null },
  { rows, offset = 0 }: RmsNormOptions<L>,
): void {
  const { x, weight, rstd, d_y, d_x, d_weight } = tensors;
  const columns = weight.shape[0]!;
  const inputs = { x, weight, rstd, d_y, d_x };
  const { constants, preludes } = chunked(chunkWidth(weight));
  const grad = {
    name: "rms_norm_grad",
    source: gradSource,
    preludes,
    constants: { ...constants, OFFSET: offset },
  };
  recordRows(program, grad, inputs, { rows }, { columns });
  if (!d_weight) return;
  const kernel = defineKernel({ name: "rms_norm_weight_grad", source: weightGradSource });
  const capacity = rstd.bytes / dtypeBytes("f32");
  for (let first_row = 0; first_row < capacity; first_row += SUMMED_ROWS) {
    program.dispatch(kernel, { x, rstd, d_y, d_weight }, (live) => ({
      params: { first_row, end_row: Math.min(rows(live), first_row + SUMMED_ROWS), columns },
      invocations: rows(live) > first_row ? columns : 0,
    }));
  }
}
