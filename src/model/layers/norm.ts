import type { Tensor } from "../../gpu/mod.ts";
import { recordLayerNorm, recordLayerNormGrad } from "../../gpu/ops/layer_norm.ts";
import { recordRmsNorm, recordRmsNormGrad } from "../../gpu/ops/rms_norm.ts";
import type { BatchCounts } from "../batch.ts";
import type { ModelConfig } from "../config.ts";
import type { Parameter } from "../parameters.ts";
import type { Buffers } from "./buffers.ts";
import type { Recording } from "./recording.ts";

/** The weights of an RMSNorm, or of a LayerNorm with its bias. */
export interface Norm {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
}

/** y [rows, columns] = norm(x) */
export class NormLayer {
  readonly #norm: Norm;
  readonly #config: ModelConfig;
  /** 1 / deviation of each row, of LayerNorm the mean before it: what the backward needs beside x. */
  readonly #rstd: Tensor;
  readonly #rows: (counts: BatchCounts) => number;

  /**
   * @param buffers where it keeps `name` for the backward
   * @param most rows
   * @param rows that are live
   */
  constructor(
    config: ModelConfig,
    norm: Norm,
    buffers: Buffers,
    name: string,
    most: number,
    rows: (counts: BatchCounts) => number,
  ) {
    this.#config = config;
    this.#norm = norm;
    this.#rows = rows;
    this.#rstd = config.traits.layer_norm ? buffers.f32(name, most, 2) : buffers.f32(name, most);
  }

  get isTrained(): boolean {
    return this.#norm.weight.gradient !== null;
  }

  forward({ gpu, program }: Recording, x: Tensor, y: Tensor): void {
    const { rms_norm_eps: eps, traits } = this.#config;
    const { weight: { value: weight }, bias } = this.#norm;
    if (bias) {
      const tensors = { x, weight, bias: bias.value, moments: this.#rstd, y };
      recordLayerNorm(gpu, program, tensors, eps, this.#rows);
    } else {
      const tensors = { x, weight, rstd: this.#rstd, y };
      recordRmsNorm(gpu, program, tensors, eps, this.#rows, { offset: traits.norm_offset });
    }
  }

  /** d_x += the gradient; adds to those of weight and bias where they are trained. */
  backward({ gpu, program }: Recording, x: Tensor, d_y: Tensor, d_x: Tensor): void {
    const { weight, bias } = this.#norm;
    const tensors = { x, d_y, d_x, weight: weight.value, d_weight: weight.gradient };
    if (bias) {
      const moments = { moments: this.#rstd, d_bias: bias.gradient };
      recordLayerNormGrad(gpu, program, { ...tensors, ...moments }, this.#rows);
    } else {
      const options = { offset: this.#config.traits.norm_offset };
      recordRmsNormGrad(gpu, program, { ...tensors, rstd: this.#rstd }, this.#rows, options);
    }
  }
}
