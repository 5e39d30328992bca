import source from "../../../shaders/rms_norm.wgsl" with { type: "text" };
import gradSource from "../../../shaders/rms_norm_grad.wgsl" with { type: "text" };
import weightGradSource from "../../../shaders/rms_norm_weight_grad.wgsl" with { type: "text" };
import type { Gpu } from "../device.ts";
import { defineKernel } from "../kernel.ts";
import { fold, type Live, type Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { rowKernel, rowWorkgroups } from "./launch.ts";

/** Tensors of an RMSNorm over rows: x and y [rows, columns], weight [columns], rstd [rows]. */
export interface RmsNormTensors {
  readonly x: Tensor;
  readonly weight: Tensor;
  readonly rstd: Tensor;
}

/** y = x * rstd * weight; keeps rstd for the backward. */
export function recordRmsNorm<L extends Live>(
  gpu: Gpu,
  program: Program<L>,
  tensors: RmsNormTensors & { readonly y: Tensor },
  eps: number,
  rows: (live: L) => number,
): void {
  const columns = tensors.weight.shape[0]!;
  program.dispatch(rowKernel(gpu, "rms_norm", source), { ...tensors }, (live) => ({
    params: { rows: rows(live), columns, eps },
    workgroups: rowWorkgroups(gpu, rows(live)),
  }));
}

/** Adds the norm's input gradient to `d_x` and, where `d_weight` is given, the weight's to that. */
export function recordRmsNormGrad<L extends Live>(
  gpu: Gpu,
  program: Program<L>,
  tensors: RmsNormTensors & { readonly d_y: Tensor; readonly d_x: Tensor; readonly d_weight: Tensor | null },
  rows: (live: L) => number,
): void {
  const { x, weight, rstd, d_y, d_x, d_weight } = tensors;
  const columns = weight.shape[0]!;
  program.dispatch(rowKernel(gpu, "rms_norm_grad", gradSource), { x, weight, rstd, d_y, d_x }, (live) => ({
    params: { rows: rows(live), columns },
    workgroups: rowWorkgroups(gpu, rows(live)),
  }));
  if (!d_weight) return;
  const kernel = defineKernel({ name: "rms_norm_weight_grad", source: weightGradSource });
  program.dispatch(kernel, { x, rstd, d_y, d_weight }, (live) => ({
    params: { rows: rows(live), columns },
    workgroups: fold(Math.ceil(columns / 8)),
  }));
}
