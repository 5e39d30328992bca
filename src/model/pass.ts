/**
 * The decoder forward and backward, recorded once for a budget of tokens and replayed for every batch.
 *
 * @module
 */
import { type Gpu, OwnedTensors, type Program, type Tensor } from "../gpu/mod.ts";
import type { PackedBatch } from "../preference/pack.ts";
import type { BatchCounts, BatchLive, Budget } from "./batch.ts";
import { type KnownKeys, uploadBatch } from "./batch_buffers.ts";
import type { Decoder } from "./decoder.ts";
import type { KeyValues } from "./layers/attention.ts";
import type { Recording } from "./layers/recording.ts";
import { type PassLayers, passLayers, type PassOptions } from "./pass_layers.ts";

/**
 * The passes of one decoder at one budget. `upload` a batch, then run a program into which {@link recordForward} and
 * {@link recordBackward} were recorded.
 */
export class DecoderPass {
  /** [sequences + 1] */
  readonly sequence_rows: Tensor;
  /** As Head has them. */
  readonly logprobs: Tensor;
  readonly averages: Tensor;
  readonly head_state: Tensor;
  readonly likeliest: Tensor | null;
  readonly collisions: Tensor | null;
  readonly coefficients: Tensor;
  readonly #tensors: OwnedTensors;
  readonly #layers: PassLayers;
  readonly #recompute: boolean;

  /**
   * @throws {GpuMemoryError} where the buffers do not fit
   * @throws {RangeError} where the budget passes mostTokens()
   */
  constructor(private readonly gpu: Gpu, decoder: Decoder, readonly budget: Budget, options: PassOptions) {
    this.#tensors = new OwnedTensors(gpu);
    try {
      this.#layers = passLayers(this.#tensors, decoder, budget, options);
      for (const rotary of this.#layers.rotaries) rotary.write(gpu);
    } catch (error) {
      this.free();
      throw error;
    }
    const { head, batch } = this.#layers;
    this.logprobs = head.logprobs;
    this.averages = head.averages;
    this.head_state = head.state;
    this.likeliest = head.likeliest;
    this.collisions = head.collisions;
    this.coefficients = head.coefficients;
    this.sequence_rows = batch.sequence_rows;
    this.#recompute = options.recompute ?? false;
  }

  /**
   * Queues a batch for the next run.
   *
   * @param known where some of the keys that it attends to come from, and which of its own are kept
   * @throws {RangeError} where it passes the budget
   */
  upload(batch: PackedBatch, known: KnownKeys | null = null): BatchCounts {
    const { tokens, rows, sequences } = batch;
    const { budget } = this;
    if (tokens > budget.tokens || rows > budget.rows || sequences > budget.sequences) {
      throw new RangeError(
        `A batch of ${tokens} tokens, ${rows} rows, ${sequences} sequences passes the budget of ${
          JSON.stringify(budget)
        }.`,
      );
    }
    for (const rotary of this.#layers.rotaries) rotary.upload(this.gpu, batch);
    return uploadBatch(this.gpu, this.#layers.batch, batch, known);
  }

  /**
   * Records embedding, blocks and head, up to `logprobs` and `averages`.
   *
   * @param stored by block, rows of earlier batches; then every batch is uploaded with its known keys
   */
  recordForward<L extends BatchLive>(program: Program<L>, stored: readonly KeyValues[] = []): void {
    const recording = this.#recordingOf(program);
    const { embedding, blocks, head, x, y } = this.#layers;
    embedding.forward(recording, x);
    blocks.forEach((block, layer) => block.forward(recording, stored[layer]));
    head.forward(recording, y);
  }

  /** Records the backward pass from `coefficients`: adds to the gradient of every trained parameter. */
  recordBackward<L extends BatchLive>(program: Program<L>): void {
    const recording = this.#recordingOf(program);
    const { embedding, blocks, head, lowest, d_stream, batch: { use } } = this.#layers;
    if (!d_stream) throw new Error("A pass for scoring keeps nothing that a backward pass could use.");
    head.backward(recording, d_stream);
    for (let layer = blocks.length - 1; layer >= lowest; layer--) {
      const block = blocks[layer]!;
      // the last block's activations are still there from the forward
      if (this.#recompute && layer < blocks.length - 1) block.recompute(recording);
      block.backward(recording, d_stream, layer > lowest || use.embedding || use.positions);
    }
    embedding.backward(recording, d_stream);
  }

  /** Releases all buffers; the decoder's weights are not among them. */
  free(): void {
    this.#tensors.free();
  }

  /** What layers record asks for a batch's live numbers alone, whatever else the program's runs give. */
  #recordingOf<L extends BatchLive>(program: Program<L>): Recording {
    return { program: program as unknown as Program<BatchLive> };
  }
}
