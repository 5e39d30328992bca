import type { Gpu, Program, Tensor } from "../gpu/mod.ts";
import { recordAddBias, recordBiasGrad } from "../gpu/ops/bias.ts";
import { recordDropout } from "../gpu/ops/elementwise.ts";
import { type Matmul, recordMatmul } from "../gpu/ops/matmul.ts";
import type { Linear, Lora } from "./decoder.ts";
import type { BatchLive } from "./batch.ts";

/** Makes a tensor that its caller owns. */
type Make = (name: string, ...shape: number[]) => Tensor;

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
  tokens: number,
  train: boolean,
  make: Make,
): LinearScratch {
  const loras = linears.flatMap(({ lora }) => lora ?? []);
  const rank = Math.max(0, ...loras.map(({ a }) => a.value.shape[0]!));
  const widest = Math.max(
    0,
    ...loras.filter(({ dropout }) => dropout > 0).map(({ a }) => a.value.shape[1]!),
  );
  return {
    low_rank: rank > 0 ? make("scratch.low_rank", tokens, rank) : null,
    d_low_rank: train && rank > 0 ? make("gradients.low_rank", tokens, rank) : null,
    dropped: train && widest > 0 ? make("scratch.dropped", tokens, widest) : null,
  };
}

/** The linear layers of a decoder, forward and backward. */
export class LinearRecorder {
  readonly #gpu: Gpu;
  readonly #scratch: LinearScratch;

  constructor(gpu: Gpu, scratch: LinearScratch) {
    this.#gpu = gpu;
    this.#scratch = scratch;
  }

  /** y (+)= x W^T + bias + scale * (dropout(x) A^T) B^T */
  record<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
  ): void {
    const { weight: { value: b }, bias, lora } = linear;
    if (lora) this.#recordLowRank(program, lora, x);
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: x,
      b,
      c: y,
      ...(lora && { low_rank: { u: this.#lowRank(lora), v: lora.b.value } }),
      size: ({ tokens: m }) => ({ m, k: b.shape[1]! }),
      accumulate,
    });
    if (bias) recordAddBias(program, { y, bias: bias.value }, ({ tokens }) => tokens);
  }

  /** low_rank = scale * dropout(x) A^T. @returns dropout(x) */
  #recordLowRank<L extends BatchLive>(program: Program<L>, lora: Lora, x: Tensor): Tensor {
    const { a: { value: b }, dropout: rate, stream, scale: alpha } = lora;
    const k = b.shape[1]!;
    let a = x;
    if (rate > 0 && this.#scratch.dropped) {
      a = withColumns(this.#scratch.dropped, k);
      recordDropout(program, { x, y: a }, { rate, stream, accumulate: false }, ({ tokens }) => tokens * k);
    }
    const size = ({ tokens: m }: L) => ({ m, k });
    recordMatmul(this.#gpu, program, { layout: "NT", a, b, c: this.#lowRank(lora), size, alpha });
    return a;
  }

  /** d_x (+)= d_y W and LoRA's part; adds to the gradients of W, bias, A and B where they are trained. */
  recordGrad<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    d_y: Tensor,
    d_x: Tensor | null,
    accumulate: boolean,
  ): void {
    const gpu = this.#gpu;
    const { weight, bias, lora } = linear;
    const k = weight.value.shape[1]!;
    const weightGradient = (a: Tensor, b: Tensor, c: Tensor) => {
      const size = ({ tokens }: L) => ({ m: c.shape[0]!, k: tokens });
      recordMatmul(gpu, program, { layout: "TN", a, b, c, size, accumulate: true });
    };
    if (weight.gradient) weightGradient(d_y, x, weight.gradient);
    if (bias?.gradient) recordBiasGrad(program, { d_y, d_bias: bias.gradient }, ({ tokens }) => tokens);
    const inputGradient = (a: Tensor, b: Tensor, c: Tensor, more: Partial<Matmul<L>>) => {
      const size = ({ tokens: m }: L) => ({ m, k: b.shape[0]! });
      recordMatmul(gpu, program, { layout: "NN", a, b, c, size, ...more });
    };
    if (!lora) {
      if (d_x) inputGradient(d_y, weight.value, d_x, { accumulate });
      return;
    }
    const dropped = this.#recordLowRank(program, lora, x);
    if (lora.b.gradient) weightGradient(d_y, this.#lowRank(lora), lora.b.gradient);
    const d_low = withColumns(this.#scratch.d_low_rank!, lora.a.value.shape[0]!);
    inputGradient(d_y, lora.b.value, d_low, { alpha: lora.scale });
    if (lora.a.gradient) weightGradient(d_low, dropped, lora.a.gradient);
    if (!d_x) return;
    if (dropped === x) {
      inputGradient(d_y, weight.value, d_x, { accumulate, low_rank: { u: d_low, v: lora.a.value } });
      return;
    }
    inputGradient(d_y, weight.value, d_x, { accumulate });
    inputGradient(d_low, lora.a.value, dropped, {});
    const { dropout: rate, stream } = lora;
    const tensors = { x: dropped, y: d_x };
    recordDropout(program, tensors, { rate, stream, accumulate: true }, ({ tokens }) => tokens * k);
  }

  #lowRank({ a }: Lora): Tensor {
    return withColumns(this.#scratch.low_rank!, a.value.shape[0]!);
  }
}

/** The front of a scratch tensor as one of fewer columns. */
function withColumns(scratch: Tensor, columns: number): Tensor {
  return { ...scratch, shape: [scratch.shape[0]!, columns] };
}
