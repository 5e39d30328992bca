import type { Tensor } from "../../gpu/mod.ts";
import { recordLayerNorm, recordLayerNormGrad } from "../../gpu/ops/layer_norm.ts";
import { recordRmsNorm, recordRmsNormGrad } from "../../gpu/ops/rms_norm.ts";
import type { BatchCounts } from "../batch.ts";
import type { ModelConfig } from "../config.ts";
import type { Parameter } from "../parameters.ts";
import type { Buffers } from "./buffers.ts";
import type { BlockContext } from "./context.ts";
import type { Recording } from "./recording.ts";

/** The weights of a norm: of a LayerNorm with bias. */
export interface Norm {
  readonly weight: Parameter;
  readonly bias: Parameter | null;
}

/** y [rows, columns] = norm(x) */
export class NormLayer {
  /** 1 / deviation of each row, of LayerNorm the mean before it: what the backward needs beside x. */
  readonly #rstd: Tensor;

  /**
   * @param buffers where it keeps `name` for the backward
   * @param most rows
   * @param rows that are live
   */
  constructor(
    private readonly config: ModelConfig,
    private readonly norm: Norm,
    buffers: Buffers,
    name: string,
    most: number,
    private readonly rows: (counts: BatchCounts) => number,
  ) {
    this.#rstd = config.plan.norm.kind === "layer" ? buffers.f32(name, most, 2) : buffers.f32(name, most);
  }

  /** A norm of tokens, each of so many rows; null where the block has none. */
  static of({ config, budget, kept }: BlockContext, norm: Norm | undefined, name: string, rows = 1) {
    const live = ({ tokens }: BatchCounts) => tokens * rows;
    return norm ? new NormLayer(config, norm, kept, `${name}_rstd`, budget.tokens * rows, live) : null;
  }

  get isTrained(): boolean {
    return this.norm.weight.gradient !== null;
  }

  forward({ program }: Recording, x: Tensor, y: Tensor): void {
    const { rms_norm_eps: eps, plan: { norm } } = this.config;
    const rows = this.rows;
    const { weight: { value: weight }, bias } = this.norm;
    if (norm.kind === "layer") {
      const tensors = { x, weight, bias: bias!.value, moments: this.#rstd, y };
      recordLayerNorm(program, tensors, { eps, rows });
    } else {
      recordRmsNorm(program, { x, weight, rstd: this.#rstd, y }, { eps, rows, offset: norm.offset });
    }
  }

  /** d_x += the gradient; adds to those of weight and bias where they are trained. */
  backward({ program }: Recording, x: Tensor, d_y: Tensor, d_x: Tensor): void {
    const { norm } = this.config.plan;
    const rows = this.rows;
    const { weight, bias } = this.norm;
    const tensors = { x, d_y, d_x, weight: weight.value, d_weight: weight.gradient };
    if (norm.kind === "layer") {
      const moments = { moments: this.#rstd, d_bias: bias!.gradient };
      recordLayerNormGrad(program, { ...tensors, ...moments }, { rows });
    } else {
      recordRmsNormGrad(program, { ...tensors, rstd: this.#rstd }, { rows, offset: norm.offset });
    }
  }
}
