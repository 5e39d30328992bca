import type { Gpu, Program, Tensor } from "../gpu/mod.ts";
import { recordAddBias, recordBiasGrad } from "../gpu/ops/bias.ts";
import { recordDropout } from "../gpu/ops/elementwise.ts";
import { recordMatmul } from "../gpu/ops/matmul.ts";
import type { Linear } from "./decoder.ts";
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
    const b = linear.weight.value;
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: x,
      b,
      c: y,
      size: ({ tokens: m }) => ({ m, k: b.shape[1]! }),
      accumulate,
    });
    const { bias, lora } = linear;
    if (bias) recordAddBias(program, { y, bias: bias.value }, ({ tokens }) => tokens);
    if (!lora) return;
    const r = lora.a.value.shape[0]!;
    this.#recordLowRank(program, linear, x);
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: this.#lowRank(r),
      b: lora.b.value,
      c: y,
      size: ({ tokens: m }) => ({ m, k: r }),
      alpha: lora.scale,
      accumulate: true,
    });
  }

  /** low_rank = dropout(x) A^T. @returns dropout(x) */
  #recordLowRank<L extends BatchLive>(program: Program<L>, { lora }: Linear, x: Tensor): Tensor {
    const [r, k] = lora!.a.value.shape as [number, number];
    let a = x;
    if (lora!.dropout > 0 && this.#scratch.dropped) {
      a = withColumns(this.#scratch.dropped, k);
      const { dropout: rate, stream } = lora!;
      recordDropout(program, { x, y: a }, { rate, stream, accumulate: false }, ({ tokens }) => tokens * k);
    }
    const size = ({ tokens: m }: L) => ({ m, k });
    recordMatmul(this.#gpu, program, { layout: "NT", a, b: lora!.a.value, c: this.#lowRank(r), size });
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
    const [n, k] = weight.value.shape as [number, number];
    const weightGradient = (a: Tensor, b: Tensor, c: Tensor, rows: number, alpha = 1) =>
      recordMatmul(gpu, program, {
        layout: "TN",
        a,
        b,
        c,
        size: ({ tokens }) => ({ m: rows, k: tokens }),
        alpha,
        accumulate: true,
      });
    if (weight.gradient) weightGradient(d_y, x, weight.gradient, n);
    if (bias?.gradient) recordBiasGrad(program, { d_y, d_bias: bias.gradient }, ({ tokens }) => tokens);
    if (d_x) {
      const size = ({ tokens: m }: L) => ({ m, k: n });
      recordMatmul(gpu, program, { layout: "NN", a: d_y, b: weight.value, c: d_x, size, accumulate });
    }
    if (!lora) return;
    const r = lora.a.value.shape[0]!;
    const dropped = this.#recordLowRank(program, linear, x);
    if (lora.b.gradient) weightGradient(d_y, this.#lowRank(r), lora.b.gradient, n, lora.scale);
    const d_low = withColumns(this.#scratch.d_low_rank!, r);
    const d_lowSize = ({ tokens: m }: L) => ({ m, k: n });
    recordMatmul(gpu, program, {
      layout: "NN",
      a: d_y,
      b: lora.b.value,
      c: d_low,
      size: d_lowSize,
      alpha: lora.scale,
    });
    if (lora.a.gradient) weightGradient(d_low, dropped, lora.a.gradient, r);
    if (!d_x) return;
    const masked = dropped !== x;
    const c = masked ? dropped : d_x;
    const size = ({ tokens: m }: L) => ({ m, k: r });
    recordMatmul(gpu, program, { layout: "NN", a: d_low, b: lora.a.value, c, size, accumulate: !masked });
    if (!masked) return;
    const { dropout: rate, stream } = lora;
    recordDropout(program, { x: c, y: d_x }, { rate, stream, accumulate: true }, ({ tokens }) => tokens * k);
  }

  #lowRank(r: number): Tensor {
    return withColumns(this.#scratch.low_rank!, r);
  }
}

/** The front of a scratch tensor as one of fewer columns. */
function withColumns(scratch: Tensor, columns: number): Tensor {
  return { ...scratch, shape: [scratch.shape[0]!, columns] };
}
