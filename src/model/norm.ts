import type { Gpu, Program, Tensor } from "../gpu/mod.ts";
import { recordLayerNorm, recordLayerNormGrad } from "../gpu/ops/layer_norm.ts";
import { recordRmsNorm, recordRmsNormGrad } from "../gpu/ops/rms_norm.ts";
import type { ModelConfig } from "./config.ts";
import type { Norm } from "./decoder.ts";
import type { BatchLive } from "./batch.ts";

/** How many rows are live. */
type Rows<L extends BatchLive> = (live: L) => number;

/** Shape of what a norm's backward needs beside its input: 1 / deviation of each row, of LayerNorm the mean before it. */
export function rstdShape({ traits }: ModelConfig, rows: number): number[] {
  return traits.layer_norm ? [rows, 2] : [rows];
}

/** The norms of a decoder, forward and backward: RMSNorm, or LayerNorm where they have a bias. */
export class NormRecorder {
  readonly #gpu: Gpu;
  readonly #config: ModelConfig;

  constructor(gpu: Gpu, config: ModelConfig) {
    this.#gpu = gpu;
    this.#config = config;
  }

  /** y [rows, columns] = norm(x) */
  record<L extends BatchLive>(
    program: Program<L>,
    { weight, bias }: Norm,
    { x, rstd, y }: { readonly x: Tensor; readonly rstd: Tensor; readonly y: Tensor },
    rows: Rows<L>,
  ): void {
    const { rms_norm_eps: eps, traits } = this.#config;
    if (bias) {
      const tensors = { x, weight: weight.value, bias: bias.value, moments: rstd, y };
      recordLayerNorm(this.#gpu, program, tensors, eps, rows);
    } else {
      const tensors = { x, weight: weight.value, rstd, y };
      recordRmsNorm(this.#gpu, program, tensors, eps, rows, { offset: traits.norm_offset });
    }
  }

  /** d_x += the gradient of norm(x); adds to those of weight and bias where they are trained. */
  recordGrad<L extends BatchLive>(
    program: Program<L>,
    { weight, bias }: Norm,
    { rstd, ...shared }: Readonly<Record<"x" | "rstd" | "d_y" | "d_x", Tensor>>,
    rows: Rows<L>,
  ): void {
    const tensors = { ...shared, weight: weight.value, d_weight: weight.gradient };
    if (bias) {
      recordLayerNormGrad(this.#gpu, program, { ...tensors, moments: rstd, d_bias: bias.gradient }, rows);
    } else {
      const options = { offset: this.#config.traits.norm_offset };
      recordRmsNormGrad(this.#gpu, program, { ...tensors, rstd }, rows, options);
    }
  }
}
