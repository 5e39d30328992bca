import source from "../../../shaders/layer_norm.wgsl" with { type: "text" };
import gradSource from "../../../shaders/layer_norm_grad.wgsl" with { type: "text" };
import weightGradSource from "../../../shaders/layer_norm_weight_grad.wgsl" with { type: "text" };
import { defineKernel } from "../kernel.ts";
import type { Tensor, Tensors } from "../tensor.ts";
import { recordRows, type RowOperation } from "./launch.ts";
import { recordSumRows } from "./sum_rows.ts";

/**
 * Tensors of a LayerNorm over rows: x and y [rows, columns], weight and bias [columns], moments [rows, 2]: mean and
 * 1 / deviation of each row.
 */
type LayerNormTensors = Tensors<"x" | "weight" | "moments">;

/** y = (x - mean) * rstd * weight + bias; keeps mean and rstd for the backward. */
export const recordLayerNorm: RowOperation<
  LayerNormTensors & Tensors<"bias" | "y">,
  { readonly eps: number }
> = (program, tensors, { eps, rows }) => {
  const columns = tensors.weight.shape[0]!;
  recordRows(program, { name: "layer_norm", source }, { ...tensors }, { rows }, { columns, eps });
};

/**
 * Adds the norm's input gradient to `d_x` and, where they are given, those of weight and bias to `d_weight` and `d_bias`,
 * over at most 262,140 rows.
 */
export const recordLayerNormGrad: RowOperation<
  LayerNormTensors & Tensors<"d_y" | "d_x"> & Readonly<Record<"d_weight" | "d_bias", Tensor | null>>
> = (program, tensors, { rows }) => {
  const { x, weight, moments, d_y, d_x, d_weight, d_bias } = tensors;
  const columns = weight.shape[0]!;
  const inputs = { x, weight, moments, d_y, d_x };
  recordRows(program, { name: "layer_norm_grad", source: gradSource }, inputs, { rows }, { columns });
  if (d_weight) {
    const kernel = defineKernel({ name: "layer_norm_weight_grad", source: weightGradSource });
    program.dispatch(kernel, { x, moments, d_y, d_weight }, (live) => ({
      params: { rows: rows(live), columns },
      invocations: columns,
    }));
  }
  if (d_bias) recordSumRows(program, { x: d_y, sums: d_bias }, { rows });
};
