/**
 * The decoder forward and backward, recorded once for a budget of tokens and replayed for every batch.
 *
 * @module
 */
import { type Gpu, OwnedTensors, type Program, type Tensor } from "../gpu/mod.ts";
import { recordAddRows, recordEmbedding, recordEmbeddingGrad } from "../gpu/ops/embedding.ts";
import { ropeRotations } from "../gpu/ops/rope.ts";
import type { PackedBatch } from "../preference/pack.ts";
import { type BatchCounts, type BatchLive, type Budget, tokensById } from "./batch.ts";
import { BlockRecorder } from "./block.ts";
import type { Decoder } from "./decoder.ts";
import { HeadRecorder } from "./head.ts";
import { NormRecorder } from "./norm.ts";
import {
  type KeyValues,
  lowestTrained,
  type PassBuffers,
  passBuffers,
  type PassOptions,
} from "./pass_buffers.ts";
import { dependsOnLength, ropeAttentionFactor, ropeFrequencies, type RopeSettings } from "./rope.ts";

/** Rows that a batch takes and gives beside its own tokens'; see KnownBuffers. */
export interface KnownKeys {
  /** [keys] */
  readonly sources: Uint32Array;
  /** [kept, 2] */
  readonly moves: Uint32Array;
}

/**
 * The passes of one decoder at one budget. `upload` a batch, then run a program into which {@link recordForward} and
 * {@link recordBackward} were recorded.
 */
export class DecoderPass {
  readonly budget: Budget;
  /** [rows]: log-prob of every scored token. */
  readonly logprobs: Tensor;
  /** [sequences, 2]: mean log-prob of a response, and its mean logit. */
  readonly averages: Tensor;
  /** [rows, 4]: each row's largest logit, the sum of exp(logit - largest), the target's logit, the sum of logits. */
  readonly head_state: Tensor;
  /** [rows]: id of the likeliest token; null in training. */
  readonly likeliest: Tensor | null;
  /** [sequences]: the loss's gradient with respect to each token's log-prob; an objective writes it. */
  readonly coefficients: Tensor;
  /** [sequences + 1] */
  readonly sequence_rows: Tensor;
  readonly #gpu: Gpu;
  readonly #decoder: Decoder;
  readonly #options: PassOptions;
  readonly #tensors: OwnedTensors;
  readonly #buffers: PassBuffers;
  readonly #block: BlockRecorder;
  readonly #head: HeadRecorder;

  /**
   * @throws {GpuMemoryError} where the buffers do not fit
   * @throws {RangeError} where the budget passes mostTokens()
   */
  constructor(gpu: Gpu, decoder: Decoder, budget: Budget, options: PassOptions) {
    this.#gpu = gpu;
    this.#decoder = decoder;
    this.#options = options;
    this.budget = budget;
    this.#tensors = new OwnedTensors(gpu);
    try {
      const buffers = this.#buffers = passBuffers(this.#tensors, decoder, budget, options);
      for (const { rope, rotations, rows } of buffers.ropes) {
        if (dependsOnLength(rope)) gpu.write(rows, Uint32Array.from({ length: budget.tokens }, (_, i) => i));
        else {
          const factor = ropeAttentionFactor(rope);
          gpu.write(rotations, ropeRotations(ropeFrequencies(rope), rotations.shape[0]!, factor));
        }
      }
    } catch (error) {
      this.free();
      throw error;
    }
    const { head, batch } = this.#buffers;
    this.logprobs = head.logprobs;
    this.averages = head.averages;
    this.head_state = head.state;
    this.likeliest = head.likeliest;
    this.coefficients = head.coefficients;
    this.sequence_rows = batch.sequence_rows;
    const norm = new NormRecorder(gpu, decoder.config);
    this.#block = new BlockRecorder(gpu, decoder, this.#buffers, norm);
    this.#head = new HeadRecorder(gpu, decoder, this.#buffers, norm);
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
    const gpu = this.#gpu;
    const { batch: buffers } = this.#buffers;
    gpu.write(buffers.token_ids, batch.token_ids);
    gpu.write(buffers.positions, batch.positions);
    gpu.write(buffers.spans, batch.spans);
    gpu.write(buffers.head_tokens, batch.head_tokens);
    gpu.write(buffers.targets, batch.targets);
    gpu.write(buffers.token_rows, batch.token_rows);
    gpu.write(buffers.token_row_list, batch.token_row_list);
    gpu.write(buffers.sequence_rows, batch.sequence_rows);
    const rowSequences = new Uint32Array(rows);
    for (let s = 0; s < sequences; s++) {
      rowSequences.fill(s, batch.sequence_rows[s], batch.sequence_rows[s + 1]);
    }
    gpu.write(buffers.row_sequences, rowSequences);
    for (const { rope, rotations } of this.#buffers.ropes) {
      if (dependsOnLength(rope)) gpu.write(rotations, rotationsOfTokens(rope, batch));
    }
    if (known) {
      const { places, sources, moves } = this.#buffers.known!;
      gpu.write(places, batch.places);
      gpu.write(sources, known.sources);
      gpu.write(moves, known.moves);
    }
    const keys = known ? known.sources.length : tokens;
    const kept = known ? known.moves.length / 2 : 0;
    let distinct = 0;
    if (this.#options.mode === "train" && this.#decoder.embedding[0]!.rows.gradient) {
      const byId = tokensById(batch.token_ids);
      gpu.write(buffers.ids, byId.ids);
      gpu.write(buffers.id_offsets, byId.id_offsets);
      gpu.write(buffers.id_tokens, byId.id_tokens);
      distinct = byId.ids.length;
    }
    let distinct_positions = 0;
    if (this.#options.mode === "train" && this.#decoder.positions?.gradient) {
      const byPosition = tokensById(batch.positions);
      gpu.write(buffers.position_ids, byPosition.ids);
      gpu.write(buffers.position_offsets, byPosition.id_offsets);
      gpu.write(buffers.position_tokens, byPosition.id_tokens);
      distinct_positions = byPosition.ids.length;
    }
    return { tokens, rows, sequences, keys, kept, distinct, distinct_positions };
  }

  /**
   * Records embedding, blocks and head, up to `logprobs` and `averages`.
   *
   * @param stored by block, rows of earlier batches; then every batch is uploaded with its known keys
   */
  recordForward<L extends BatchLive>(program: Program<L>, stored: readonly KeyValues[] = []): void {
    const { embedding, positions, blocks, config } = this.#decoder;
    for (const { first_row, rows } of embedding) {
      const tensors = {
        token_ids: this.#buffers.batch.token_ids,
        table: rows.value,
        x: this.#buffers.streams[0]!,
      };
      recordEmbedding(program, tensors, first_row, { scale: config.traits.embedding_scale });
    }
    if (positions) {
      const tensors = {
        indices: this.#buffers.batch.positions,
        table: positions.value,
        x: this.#buffers.streams[0]!,
      };
      recordAddRows(program, tensors);
    }
    for (const layer of blocks.keys()) {
      this.#block.record(program, layer, stored[layer]);
      this.#block.recordMlpOutput(program, layer);
    }
    this.#head.record(program);
  }

  /** Records the backward pass from `coefficients`: adds to the gradient of every trained parameter. */
  recordBackward<L extends BatchLive>(program: Program<L>): void {
    const gradients = this.#buffers.gradients;
    if (!gradients) throw new Error("A pass for scoring keeps nothing that a backward pass could use.");
    this.#head.recordGrad(program);
    const { blocks, embedding, positions } = this.#decoder;
    const lowest = lowestTrained(this.#decoder);
    const toEmbedding = [embedding[0]!.rows, positions].some((table) => table?.gradient);
    const last = blocks.length - 1;
    for (let layer = last; layer >= lowest; layer--) {
      // the last block's activations are still there from the forward
      if (this.#options.recompute && layer < last) {
        this.#block.record(program, layer);
        // a norm over the mlp's output needs that too
        if (blocks[layer]!.mlp_output_norm) this.#block.recordMlpOutput(program, layer, true);
      }
      this.#block.recordGrad(program, layer, layer > lowest || toEmbedding);
    }
    for (const { first_row, rows } of embedding) {
      if (!rows.gradient) continue;
      const { ids, id_offsets, id_tokens } = this.#buffers.batch;
      const tensors = { ids, id_offsets, id_tokens, d_x: gradients.stream, d_table: rows.gradient };
      recordEmbeddingGrad(program, tensors, first_row, {
        scale: this.#decoder.config.traits.embedding_scale,
      });
    }
    if (positions?.gradient) {
      const { position_ids: ids, position_offsets: id_offsets, position_tokens: id_tokens } =
        this.#buffers.batch;
      const tensors = { ids, id_offsets, id_tokens, d_x: gradients.stream, d_table: positions.gradient };
      recordEmbeddingGrad(program, tensors, 0, {}, (live) => live.distinct_positions);
    }
  }

  /** Lets go of all buffers; the decoder's weights are not among them. */
  free(): void {
    this.#tensors.free();
  }
}

/** (cos, sin) of each token of a batch by its position and its sequence's length: [tokens, rotary_dim / 2, 2] */
function rotationsOfTokens(rope: RopeSettings, { tokens, positions, lengths }: PackedBatch): Float32Array {
  const tables = new Map<number, Float32Array>();
  const width = rope.rotary_dim;
  const rotations = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; token++) {
    const length = lengths[token]!;
    let table = tables.get(length);
    if (!table) {
      table = ropeRotations(ropeFrequencies(rope, length), length, ropeAttentionFactor(rope));
      tables.set(length, table);
    }
    rotations.set(table.subarray(positions[token]! * width, (positions[token]! + 1) * width), token * width);
  }
  return rotations;
}
