import adamwSource from "../../shaders/adamw.wgsl" with { type: "text" };
import clipSource from "../../shaders/clip.wgsl" with { type: "text" };
import sumBlocksSource from "../../shaders/sum_blocks.wgsl" with { type: "text" };
import { defineKernel, type Gpu, type Live, Program, type Tensor } from "../gpu/mod.ts";
import { elementKernel, elementWorkgroups, rowKernel, rowWorkgroups } from "../gpu/ops/_launch.ts";
import type { ParameterSegment } from "../model/parameters.ts";

/** AdamW's constants; names as torch and transformers have them. */
export interface AdamwSettings {
  readonly adam_beta1: number;
  readonly adam_beta2: number;
  readonly adam_epsilon: number;
  readonly weight_decay: number;
  /** Global gradient norm above which gradients are scaled down; 0: never. */
  readonly max_grad_norm: number;
}

/** Live numbers of one update. */
export interface UpdateLive extends Live {
  /** Updates done, this one counted: 1 is the first. */
  readonly step: number;
  readonly learning_rate: number;
  /** Place in `norms` for the gradient norm. */
  readonly slot: number;
}

const BLOCK = 4096;

/** Global gradient norm, clipping and AdamW over all trained segments, in one submission. */
export class Optimizer {
  /** [slots]: gradient norms before clipping. */
  readonly norms: Tensor;
  readonly #gpu: Gpu;
  readonly #owned: Tensor[];
  readonly #update: Program<UpdateLive>;
  readonly #zero: Program;

  constructor(gpu: Gpu, segments: readonly ParameterSegment[], settings: AdamwSettings, slots: number) {
    this.#gpu = gpu;
    this.norms = gpu.tensor("optimizer.norms", [slots]);
    const clip = gpu.tensor("optimizer.clip", [2]);
    this.#owned = [this.norms, clip];
    this.#update = new Program(gpu, "optimizer");
    const squares = this.#recordSquares(segments);
    this.#update.dispatch(
      defineKernel({ name: "clip", source: clipSource }),
      { squares, clip, norms: this.norms },
      ({ slot }) => ({
        params: { count: squares.shape[0]!, max_norm: settings.max_grad_norm, slot },
        workgroups: [1, 1, 1],
      }),
    );
    for (const { count, decay, gradient, value: parameter, mean, variance } of segments) {
      const { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, weight_decay } = settings;
      const bindings = { clip, gradient, parameter, mean, variance };
      this.#update.dispatch(elementKernel("adamw", adamwSource), bindings, ({ step, learning_rate }) => ({
        params: {
          count,
          beta2,
          gain1: 1 - beta1,
          gain2: 1 - beta2,
          epsilon,
          decay: 1 - learning_rate * (decay ? weight_decay : 0),
          step_size: learning_rate / (1 - beta1 ** step),
          root_correction: Math.sqrt(1 - beta2 ** step),
        },
        workgroups: elementWorkgroups(count),
      }));
    }
    this.#zero = new Program(gpu, "zero_gradients");
    for (const { gradient } of segments) this.#zero.clear(gradient);
  }

  /** Zeroes all gradients, before a step's first micro-batch. */
  zeroGradients(): void {
    this.#zero.run({});
  }

  /** Clips the gathered gradients and updates every trained parameter, unless their norm is not finite. */
  update(live: UpdateLive): void {
    this.#update.run(live);
  }

  free(): void {
    this.#update.free();
    this.#zero.free();
    this.#gpu.free(...this.#owned);
  }

  /** Sums of squares by blocks, summed again until at most one block is left. */
  #recordSquares(segments: readonly ParameterSegment[]): Tensor {
    const gpu = this.#gpu;
    const blocks = segments.map(({ count }) => Math.ceil(count / BLOCK));
    const record = (x: Tensor, sums: Tensor, count: number, first: number, square: 0 | 1) =>
      this.#update.dispatch(
        rowKernel(gpu, "sum_blocks", sumBlocksSource, { SQUARE: square }),
        { x, sums },
        () => ({
          params: { count, first },
          workgroups: rowWorkgroups(gpu, Math.ceil(count / BLOCK)),
        }),
      );
    const own = (count: number): Tensor => {
      const tensor = gpu.tensor("optimizer.squares", [count]);
      this.#owned.push(tensor);
      return tensor;
    };
    let count = blocks.reduce((sum, n) => sum + n, 0);
    let sums = own(count);
    segments.forEach(({ gradient, count }, i) => {
      record(gradient, sums, count, blocks.slice(0, i).reduce((sum, n) => sum + n, 0), 1);
    });
    while (count > BLOCK) {
      const next = own(Math.ceil(count / BLOCK));
      record(sums, next, count, 0, 0);
      sums = next;
      count = next.shape[0]!;
    }
    return sums;
  }
}
