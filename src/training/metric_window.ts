import { type Gpu, OwnedTensors, Program, type Tensor, type TensorSource } from "../gpu/mod.ts";
import { recordCopy } from "../gpu/ops/elementwise.ts";
import { recordSumRows } from "../gpu/ops/sum_rows.ts";
import type { Objective } from "../objective/objective.ts";

/** Where the metrics of finished steps are gathered. */
interface WindowBuffers {
  /** [1, columns]: of the finished steps since the last logged one. */
  readonly window: Tensor;
  /** [1, columns]: the window that is being read, while the next one begins. */
  readonly logged: Tensor;
  /** [2]: the optimiser's clip of the window's last step. */
  readonly logged_clip: Tensor;
}

/** What a window of steps has added up to. */
export interface WindowSums {
  /** By the objective's columns. */
  readonly sums: Float32Array;
  /** The gradient's norm at the last step, before it was clipped. */
  readonly grad_norm: number;
}

/** Makes the buffers of a {@link MetricWindow}. */
export function windowBuffers(source: TensorSource, { columns }: Objective): WindowBuffers {
  return {
    window: source.tensor("objective.window_sums", [1, columns.length]),
    logged: source.tensor("objective.logged_sums", [1, columns.length]),
    logged_clip: source.tensor("objective.logged_clip", [2]),
  };
}

/**
 * The metrics of the finished steps since the last logged one. A step adds its own only once it is done: an interrupted one
 * is done over.
 */
export class MetricWindow {
  readonly #buffers: WindowBuffers;
  readonly #add: Program;
  readonly #close: Program;
  readonly #owned: DisposableStack;

  /**
   * @param sums [1, columns]: the step's
   * @param clip as {@link Optimizer} has it
   */
  constructor(
    private readonly gpu: Gpu,
    private readonly objective: Objective,
    sums: Tensor,
    private readonly clip: Tensor,
  ) {
    using made = new DisposableStack();
    const own = <T extends { free(): void }>(part: T): T => made.adopt(part, (part) => part.free());
    const { window, logged, logged_clip } = this.#buffers = windowBuffers(
      own(new OwnedTensors(gpu)),
      objective,
    );
    this.#add = own(new Program(gpu, "commit_metrics"));
    recordSumRows(this.#add, { x: sums, sums: window }, { rows: () => 1 });
    this.#close = own(new Program(gpu, "close_window"));
    recordCopy(this.#close, { x: window, y: logged }, { count: () => objective.columns.length });
    recordCopy(this.#close, { x: clip, y: logged_clip }, { count: () => 2 });
    this.#close.clear(window);
    this.#owned = made.move();
  }

  /** Adds the metrics of the step that is done. */
  add(): void {
    this.#add.run({});
  }

  /** Begins the next window. @returns what this one has added up to */
  async close(): Promise<WindowSums> {
    this.#close.run({});
    return await this.#read(this.#buffers.logged, this.#buffers.logged_clip);
  }

  /** What the window has added up to so far, by the objective's columns. */
  async save(): Promise<{ readonly metrics: Record<string, number>; readonly grad_norm: number }> {
    const { sums, grad_norm } = await this.#read(this.#buffers.window, this.clip);
    const metrics = Object.fromEntries(this.objective.columns.map((name, i) => [name, sums[i]!]));
    return { metrics, grad_norm };
  }

  /** Goes on with what {@link save} gave. */
  restore(metrics: Readonly<Record<string, number>>, grad_norm: number): void {
    const sums = Float32Array.from(this.objective.columns, (name) => metrics[name] ?? 0);
    this.gpu.write(this.#buffers.window, sums);
    this.gpu.write(this.clip, Float32Array.of(1, grad_norm));
  }

  free(): void {
    this.#owned.dispose();
  }

  async #read(sums: Tensor, clip: Tensor): Promise<WindowSums> {
    const [read, [, grad_norm]] = await this.gpu.read(sums, clip) as [Float32Array, Float32Array];
    return { sums: read, grad_norm: grad_norm! };
  }
}
