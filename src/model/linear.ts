import type { Gpu, Program, Tensor } from "../gpu/mod.ts";
import { recordBiasGrad } from "../gpu/ops/bias.ts";
import { type Activation, recordDropout } from "../gpu/ops/elementwise.ts";
import { type Matmul, recordMatmul } from "../gpu/ops/matmul.ts";
import type { Linear, Lora } from "./decoder.ts";
import type { BatchLive } from "./batch.ts";

/** Makes a tensor that its caller owns. */
type Make = (name: string, ...shape: number[]) => Tensor;

/** What the adapters of a decoder's linear layers share. */
export interface LinearScratch {
  /** [tokens, largest r]; null without adapters. */
  readonly low_rank: Tensor | null;
  /** The same of a layer's own, [tokens, r], where the forward keeps it for the backward. */
  readonly kept_low_rank: ReadonlyMap<Linear, Tensor>;
  /** Its gradient; null where nothing is trained. */
  readonly d_low_rank: Tensor | null;
  /** [tokens, inputs of the widest layer]: dropout(x); null without dropout. */
  readonly dropped: Tensor | null;
}

/**
 * @param kept those of the layers whose low-rank activations are kept
 * @param tokens the most of a batch
 */
export function linearScratch(
  linears: readonly Linear[],
  kept: readonly Linear[],
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
    kept_low_rank: new Map(
      kept.flatMap((linear) => {
        if (!linear.lora) return [];
        return [[linear, make("activations.low_rank", tokens, linear.lora.a.value.shape[0]!)]];
      }),
    ),
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

  /**
   * y = x W^T + bias + scale * (dropout(x) A^T) B^T, to which the residual is added, which may be y; or which multiplies
   * activation(y), where `gate` names one.
   */
  record<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    y: Tensor,
    { residual, gate }: { readonly residual?: Tensor; readonly gate?: Activation } = {},
  ): void {
    const { weight: { value: b }, bias, lora } = linear;
    const u = lora && this.#recordLowRank(program, linear, this.#recordDropped(program, lora, x));
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: x,
      b,
      c: y,
      ...(u && { low_rank: { u, v: lora!.b.value } }),
      ...(bias && { bias: bias.value }),
      size: ({ tokens: m }) => ({ m, k: b.shape[1]! }),
      accumulate: residual === y,
      ...(residual && residual !== y && { residual }),
      ...(gate && { gate }),
    });
  }

  /** @returns dropout(x), which is x where nothing is dropped */
  #recordDropped<L extends BatchLive>(program: Program<L>, lora: Lora, x: Tensor): Tensor {
    const { a, dropout: rate, stream } = lora;
    if (rate === 0 || !this.#scratch.dropped) return x;
    const k = a.value.shape[1]!;
    const y = withColumns(this.#scratch.dropped, k);
    recordDropout(program, { x, y }, { rate, stream, accumulate: false }, ({ tokens }) => tokens * k);
    return y;
  }

  /** low_rank = scale * dropped A^T. @returns it */
  #recordLowRank<L extends BatchLive>(program: Program<L>, linear: Linear, dropped: Tensor): Tensor {
    const { a: { value: b }, scale: alpha } = linear.lora!;
    const [r, k] = b.shape as [number, number];
    const c = this.#scratch.kept_low_rank.get(linear) ?? withColumns(this.#scratch.low_rank!, r);
    const size = ({ tokens: m }: L) => ({ m, k });
    recordMatmul(this.#gpu, program, { layout: "NT", a: dropped, b, c, size, alpha });
    return c;
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
    this.recordInputGrad(program, linear, d_y, d_x, accumulate);
    this.recordWeightGrad(program, linear, x, d_y);
  }

  /** The first half of {@link recordGrad}, which asks for no x; the second follows before another layer's. */
  recordInputGrad<L extends BatchLive>(
    program: Program<L>,
    { weight, lora }: Linear,
    d_y: Tensor,
    d_x: Tensor | null,
    accumulate: boolean,
  ): void {
    const product = (a: Tensor, b: Tensor, c: Tensor, more: Partial<Matmul<L>> = {}) => {
      const size = ({ tokens: m }: L) => ({ m, k: b.shape[0]! });
      recordMatmul(this.#gpu, program, { layout: "NN", a, b, c, size, ...more });
    };
    if (!lora) {
      if (d_x) product(d_y, weight.value, d_x, { accumulate });
      return;
    }
    const { a, b, scale: alpha, dropout: rate, stream } = lora;
    const d_low = this.#lowRankGrad(lora);
    product(d_y, b.value, d_low, { alpha });
    if (!d_x) return;
    if (rate === 0 || !this.#scratch.dropped) {
      product(d_y, weight.value, d_x, { accumulate, low_rank: { u: d_low, v: a.value } });
      return;
    }
    const k = a.value.shape[1]!;
    const dropped = withColumns(this.#scratch.dropped, k);
    product(d_y, weight.value, d_x, { accumulate });
    product(d_low, a.value, dropped);
    const tensors = { x: dropped, y: d_x };
    recordDropout(program, tensors, { rate, stream, accumulate: true }, ({ tokens }) => tokens * k);
  }

  /** The second half of {@link recordGrad}. */
  recordWeightGrad<L extends BatchLive>(program: Program<L>, linear: Linear, x: Tensor, d_y: Tensor): void {
    const { weight, bias, lora } = linear;
    const addProduct = (a: Tensor, b: Tensor, c: Tensor) => {
      const size = ({ tokens }: L) => ({ m: c.shape[0]!, k: tokens });
      recordMatmul(this.#gpu, program, { layout: "TN", a, b, c, size, accumulate: true });
    };
    if (weight.gradient) addProduct(d_y, x, weight.gradient);
    if (bias?.gradient) recordBiasGrad(program, { d_y, d_bias: bias.gradient }, ({ tokens }) => tokens);
    if (!lora) return;
    const dropped = this.#recordDropped(program, lora, x);
    const low = this.#scratch.kept_low_rank.get(linear) ?? this.#recordLowRank(program, linear, dropped);
    if (lora.b.gradient) addProduct(d_y, low, lora.b.gradient);
    if (lora.a.gradient) addProduct(this.#lowRankGrad(lora), dropped, lora.a.gradient);
  }

  #lowRankGrad({ a }: Lora): Tensor {
    return withColumns(this.#scratch.d_low_rank!, a.value.shape[0]!);
  }
}

/** The front of a scratch tensor as one of fewer columns. */
function withColumns(scratch: Tensor, columns: number): Tensor {
  return { ...scratch, shape: [scratch.shape[0]!, columns] };
}
