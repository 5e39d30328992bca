import adamwSource from "../../shaders/adamw.wgsl" with { type: "text" };
import clipSource from "../../shaders/clip.wgsl" with { type: "text" };
import sumBlocksSource from "../../shaders/sum_blocks.wgsl" with { type: "text" };
import {
  defineKernel,
  type Gpu,
  type Live,
  OwnedTensors,
  Program,
  type Tensor,
  type TensorSource,
  type TimedDispatch,
} from "../gpu/mod.ts";
import { chunked, chunkWidth, recordElements, recordRows } from "../gpu/ops/launch.ts";
import type { TrainingSettings } from "../api/settings.ts";
import type { ParameterSegment } from "../model/parameters.ts";

/** AdamW's constants; names as torch and transformers have them. */
export type AdamwSettings = Pick<
  TrainingSettings,
  "adam_beta1" | "adam_beta2" | "adam_epsilon" | "weight_decay" | "max_grad_norm"
>;

/** Live numbers of one update. */
export interface UpdateLive extends Live {
  /** Updates done, this one counted: 1 is the first. */
  readonly step: number;
  readonly learning_rate: number;
}

const BLOCK = 4096;

/** Buffers of an {@link Optimizer}. */
interface OptimizerBuffers {
  /** [2]: the factor that clipped the last update's gradient (-1: left out), and the gradient's norm before it. */
  readonly clip: Tensor;
  /** Sums of squares by blocks, and sums of those until at most one block is left. */
  readonly squares: readonly Tensor[];
}

/** Makes the buffers of an optimizer. @throws {GpuMemoryError} where they do not fit */
export function optimizerBuffers(
  source: TensorSource,
  segments: readonly Pick<ParameterSegment, "count">[],
): OptimizerBuffers {
  const clip = source.tensor("optimizer.clip", [2]);
  const squares: Tensor[] = [];
  let count = segments.reduce((sum, { count }) => sum + Math.ceil(count / BLOCK), 0);
  for (;; count = Math.ceil(count / BLOCK)) {
    squares.push(source.tensor("optimizer.squares", [count]));
    if (count <= BLOCK) return { clip, squares };
  }
}

/** Global gradient norm, clipping and AdamW over all trained segments, in one submission. */
export class Optimizer {
  /** [2]: the factor that clipped the last update's gradient (-1: left out), and the gradient's norm before it. */
  readonly clip: Tensor;
  readonly #owned: DisposableStack;
  readonly #update: Program<UpdateLive>;
  readonly #zero: Program;

  /** @throws {GpuMemoryError} where the buffers do not fit */
  constructor(gpu: Gpu, segments: readonly ParameterSegment[], settings: AdamwSettings) {
    using made = new DisposableStack();
    const tensors = made.adopt(new OwnedTensors(gpu), (tensors) => tensors.free());
    const { clip, squares: levels } = optimizerBuffers(tensors, segments);
    this.clip = clip;
    this.#update = made.adopt(new Program(gpu, "optimizer"), (program) => program.free());
    const squares = this.#recordSquares(segments, levels);
    this.#update.dispatch(
      defineKernel({ name: "clip", source: clipSource }),
      { squares, clip },
      () => ({
        params: { count: squares.shape[0]!, max_norm: settings.max_grad_norm },
        workgroups: [1, 1, 1],
      }),
    );
    for (const { count, decay, gradient, value: parameter, mean, variance } of segments) {
      const { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, weight_decay } = settings;
      const bindings = { clip, gradient, parameter, mean, variance };
      const width = chunkWidth(parameter);
      const kernel = { name: "adamw", source: adamwSource, ...chunked(width) };
      recordElements(this.#update, kernel, bindings, ({ step, learning_rate }) => ({
        params: {
          count: count / width,
          beta2,
          gain1: 1 - beta1,
          gain2: 1 - beta2,
          epsilon,
          decay: 1 - learning_rate * (decay ? weight_decay : 0),
          step_size: learning_rate / (1 - beta1 ** step),
          root_correction: Math.sqrt(1 - beta2 ** step),
        },
        elements: count / width,
      }));
    }
    this.#zero = made.adopt(new Program(gpu, "zero_gradients"), (program) => program.free());
    for (const { gradient } of segments) this.#zero.clear(gradient);
    this.#owned = made.move();
  }

  /** Zeroes all gradients, before a step's first micro-batch. */
  zeroGradients(): void {
    this.#zero.run({});
  }

  /** Clips the gathered gradients and updates every trained parameter, unless their norm is not finite. */
  update(live: UpdateLive): void {
    this.#update.run(live);
  }

  /** Updates, and says what each dispatch took. @throws where the device has no timestamp queries */
  profile(live: UpdateLive): Promise<TimedDispatch[]> {
    return this.#update.profile(live);
  }

  free(): void {
    this.#owned.dispose();
  }

  /** @returns the last level, at most one block */
  #recordSquares(segments: readonly ParameterSegment[], levels: readonly Tensor[]): Tensor {
    const record = (x: Tensor, sums: Tensor, count: number, first: number, square: 0 | 1) =>
      recordRows(
        this.#update,
        { name: "sum_blocks", source: sumBlocksSource, constants: { SQUARE: square } },
        { x, sums },
        { rows: () => Math.ceil(count / BLOCK) },
        { count, first },
      );
    let first = 0;
    for (const { gradient, count } of segments) {
      record(gradient, levels[0]!, count, first, 1);
      first += Math.ceil(count / BLOCK);
    }
    levels.slice(1).forEach((sums, i) => record(levels[i]!, sums, levels[i]!.shape[0]!, 0, 0));
    return levels.at(-1)!;
  }
}
