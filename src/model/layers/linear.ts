import type { Tensor } from "../../gpu/mod.ts";
import { type Activation, recordDropout } from "../../gpu/ops/elementwise.ts";
import { recordSumRows } from "../../gpu/ops/sum_rows.ts";
import { type BatchCounts, tokensOf } from "../batch.ts";
import type { Parameter } from "../parameters.ts";
import type { Buffers } from "./buffers.ts";
import type { BlockContext } from "./context.ts";
import { recordInputGrad, recordOutput, recordWeightGrad } from "./products.ts";
import type { Recording } from "./recording.ts";

/** LoRA of one linear layer: y += scale * B A dropout(x). */
export interface Lora {
  /** [r, inputs] */
  readonly a: Parameter;
  /** [outputs, r] */
  readonly b: Parameter;
  /** As adapterScale() has it. */
  readonly scale: number;
  /** Rate, in training; 0 when scoring. */
  readonly dropout: number;
  /** Tells the layers' dropout masks apart. */
  readonly stream: number;
}

/** y = x W^T (+ bias) (+ LoRA), W [outputs, inputs]. */
export interface Linear {
  /** [outputs, inputs] */
  readonly weight: Parameter;
  /** [outputs] */
  readonly bias: Parameter | null;
  /** null where the layer has no adapter. */
  readonly lora: Lora | null;
}

/** Where a linear layer's output goes. */
export interface LinearOutput {
  readonly y: Tensor;
  /** What is added to it; may be y. */
  readonly residual?: Tensor;
  /** y holds a gated mlp's gates, of which it gets the activation times the output. */
  readonly gate?: Activation;
}

/** What the adapters of a decoder's linear layers share. */
export interface LinearScratch {
  /** [tokens, largest r]; null without adapters. */
  readonly low_rank: Tensor | null;
  /** Its gradient; null where nothing is trained. */
  readonly d_low_rank: Tensor | null;
  /** [tokens, inputs of the widest layer]: dropout(x); null without dropout. */
  readonly dropped: Tensor | null;
}

/** @param tokens the most of a batch */
export function linearScratch(
  linears: readonly Linear[],
  buffers: Buffers,
  tokens: number,
  train: boolean,
): LinearScratch {
  const loras = linears.flatMap(({ lora }) => lora ?? []);
  const rank = Math.max(0, ...loras.map(({ a }) => a.value.shape[0]!));
  const dropping = loras.filter(({ dropout }) => dropout > 0);
  const widest = Math.max(0, ...dropping.map(({ a }) => a.value.shape[1]!));
  return {
    low_rank: rank > 0 ? buffers.f32("scratch.low_rank", tokens, rank) : null,
    d_low_rank: train && rank > 0 ? buffers.f32("gradients.low_rank", tokens, rank) : null,
    dropped: train && widest > 0 ? buffers.f32("scratch.dropped", tokens, widest) : null,
  };
}

/** y = alpha * (x W^T + scale * (dropout(x) A^T) B^T) + bias */
export class LinearLayer {
  readonly #scratch: LinearScratch;
  /** [tokens, r]: scale * dropout(x) A^T; null without an adapter. */
  readonly #lowRank: Tensor | null;
  /** Whether the backward finds it there. */
  readonly #keepsLowRank: boolean;

  /**
   * @param name tells the layers of a block apart
   * @param alpha multiplies what is not the bias
   */
  constructor(
    { budget, kept, lasting, linear: scratch }: BlockContext,
    private readonly linear: Linear,
    name: string,
    private readonly alpha = 1,
  ) {
    this.#scratch = scratch;
    this.#keepsLowRank = lasting;
    const r = linear.lora?.a.value.shape[0]!;
    if (!linear.lora) this.#lowRank = null;
    else if (lasting) this.#lowRank = kept.f32(`low_rank.${name}`, budget.tokens, r);
    else this.#lowRank = withColumns(scratch.low_rank!, r);
  }

  /** Columns of y. */
  get outputs(): number {
    return this.linear.weight.value.shape[0]!;
  }

  forward(recording: Recording, x: Tensor, { y, residual, gate }: LinearOutput): void {
    const { weight, bias, lora } = this.linear;
    const u = lora && this.#recordLowRank(recording, lora, this.#recordDropped(recording, lora, x));
    const tensors = {
      ...{ a: x, b: weight.value, c: y },
      ...(u && { low_rank: { u, v: lora!.b.value } }),
      ...(bias && { bias: bias.value }),
      ...(residual && residual !== y && { residual }),
    };
    const more = { alpha: this.alpha, accumulate: residual === y, ...(gate && { gate }) };
    recordOutput(recording, tensors, tokensOf, more);
  }

  /** d_x (+)= d_y W and LoRA's part; adds to the gradients of W, bias, A and B where they are trained. */
  backward(recording: Recording, x: Tensor, d_y: Tensor, d_x: Tensor | null, accumulate: boolean): void {
    this.backwardInput(recording, d_y, d_x, accumulate);
    this.backwardWeight(recording, x, d_y);
  }

  /** The first half of {@link backward}, which asks for no x; the second follows before another layer's. */
  backwardInput(recording: Recording, d_y: Tensor, d_x: Tensor | null, accumulate: boolean): void {
    const { weight: { value: w }, lora } = this.linear;
    const more = { alpha: this.alpha, accumulate };
    if (!lora) {
      if (d_x) recordInputGrad(recording, { a: d_y, b: w, c: d_x }, tokensOf, more);
      return;
    }
    const { a: { value: a }, b, scale, dropout: rate, stream } = lora;
    const d_low = this.#lowRankGrad(lora);
    recordInputGrad(recording, { a: d_y, b: b.value, c: d_low }, tokensOf, { alpha: scale });
    if (!d_x) return;
    if (rate === 0 || !this.#scratch.dropped) {
      recordInputGrad(recording, { a: d_y, b: w, c: d_x, low_rank: { u: d_low, v: a } }, tokensOf, more);
      return;
    }
    const k = a.shape[1]!;
    const dropped = withColumns(this.#scratch.dropped, k);
    recordInputGrad(recording, { a: d_y, b: w, c: d_x }, tokensOf, more);
    recordInputGrad(recording, { a: d_low, b: a, c: dropped }, tokensOf, { alpha: this.alpha });
    const count = ({ tokens }: BatchCounts) => tokens * k;
    recordDropout(recording.program, { x: dropped, y: d_x }, { rate, stream, accumulate: true, count });
  }

  /** The second half of {@link backward}. */
  backwardWeight(recording: Recording, x: Tensor, d_y: Tensor): void {
    const { weight, bias, lora } = this.linear;
    const add = (d_y: Tensor, x: Tensor, { gradient: d_w }: Parameter) => {
      if (d_w) recordWeightGrad(recording, { a: d_y, b: x, c: d_w }, tokensOf, this.alpha);
    };
    add(d_y, x, weight);
    if (bias?.gradient) recordSumRows(recording.program, { x: d_y, sums: bias.gradient }, { rows: tokensOf });
    if (!lora) return;
    const dropped = this.#recordDropped(recording, lora, x);
    const low = this.#keepsLowRank ? this.#lowRank! : this.#recordLowRank(recording, lora, dropped);
    add(d_y, low, lora.b);
    add(this.#lowRankGrad(lora), dropped, lora.a);
  }

  /** @returns dropout(x), which is x where nothing is dropped */
  #recordDropped({ program }: Recording, { a, dropout: rate, stream }: Lora, x: Tensor): Tensor {
    if (rate === 0 || !this.#scratch.dropped) return x;
    const k = a.value.shape[1]!;
    const y = withColumns(this.#scratch.dropped, k);
    const count = ({ tokens }: BatchCounts) => tokens * k;
    recordDropout(program, { x, y }, { rate, stream, accumulate: false, count });
    return y;
  }

  /** @returns scale * dropped A^T */
  #recordLowRank(recording: Recording, { a, scale: alpha }: Lora, dropped: Tensor): Tensor {
    recordOutput(recording, { a: dropped, b: a.value, c: this.#lowRank! }, tokensOf, { alpha });
    return this.#lowRank!;
  }

  #lowRankGrad({ a }: Lora): Tensor {
    return withColumns(this.#scratch.d_low_rank!, a.value.shape[0]!);
  }
}

/** The front of a scratch tensor as one of fewer columns. */
export function withColumns(scratch: Tensor, columns: number): Tensor {
  return { ...scratch, shape: [scratch.shape[0]!, columns] };
}
