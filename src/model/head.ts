import { type Gpu, type Program } from "../gpu/mod.ts";
import { recordGatherRows, recordGatherRowsGrad } from "../gpu/ops/gather_rows.ts";
import { recordAverageLogprobs, recordLogsumexp, recordLogsumexpGrad } from "../gpu/ops/logprobs.ts";
import { recordMatmul } from "../gpu/ops/matmul.ts";
import type { BatchLive } from "./batch.ts";
import type { Decoder } from "./decoder.ts";
import type { NormRecorder } from "./norm.ts";
import type { HeadChunk, PassBuffers } from "./pass_buffers.ts";

/**
 * The last norm, the logits of the scored tokens and their log-probs, forward and backward: a chunk of the vocabulary
 * at a time, so that nothing of size [rows, vocabulary] exists.
 */
export class HeadRecorder {
  readonly #gpu: Gpu;
  readonly #decoder: Decoder;
  readonly #buffers: PassBuffers;
  readonly #norm: NormRecorder;

  constructor(gpu: Gpu, decoder: Decoder, buffers: PassBuffers, norm: NormRecorder) {
    this.#gpu = gpu;
    this.#decoder = decoder;
    this.#buffers = buffers;
    this.#norm = norm;
  }

  /** From the last block's output to `logprobs` and `averages`. */
  record<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, chunks, state, likeliest: best, logprobs, averages } =
      this.#buffers.head;
    const { config, norm } = this.#decoder;
    const { head_tokens: indices, targets, sequence_rows } = this.#buffers.batch;
    recordGatherRows(program, { indices, x: this.#buffers.streams.at(-1)!, y: input });
    const softcap = config.traits.logit_softcap;
    const rows = rowsLive<L>;
    this.#norm.record(program, norm, { x: input, rstd, y: normed }, rows);
    for (const chunk of chunks) {
      this.#recordLogits(program, chunk);
      const tensors = { logits, targets, state, ...(best && { best }) };
      recordLogsumexp(this.#gpu, program, tensors, chunkOf(chunk), { softcap });
    }
    recordAverageLogprobs(program, { state, sequence_rows, logprobs, averages }, config.vocab_size);
  }

  /** From `coefficients` to `gradients.stream`, which it writes whole; adds to the gradients of norm and table. */
  recordGrad<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, chunks, state, coefficients } = this.#buffers.head;
    const { norm, config } = this.#decoder;
    const { targets, row_sequences, token_rows, token_row_list } = this.#buffers.batch;
    const g = this.#buffers.gradients!;
    chunks.forEach((chunk, i) => {
      // the logits of a vocabulary in one chunk are still there from the forward
      if (chunks.length > 1) this.#recordLogits(program, chunk);
      recordLogsumexpGrad(
        this.#gpu,
        program,
        { logits, targets, state, row_sequences, coefficients },
        chunkOf(chunk),
        { softcap: config.traits.logit_softcap },
      );
      recordMatmul(this.#gpu, program, {
        layout: "NN",
        a: logits,
        b: chunk.weight,
        c: g.head_normed,
        size: ({ rows }) => ({ m: rows, k: chunk.columns }),
        accumulate: i > 0,
      });
      if (!chunk.gradient) return;
      recordMatmul(this.#gpu, program, {
        layout: "TN",
        a: logits,
        b: normed,
        c: chunk.gradient,
        size: ({ rows }) => ({ m: chunk.columns, k: rows }),
        accumulate: true,
      });
    });
    program.clear(g.head_input);
    const d = { d_y: g.head_normed, d_x: g.head_input };
    this.#norm.recordGrad(program, norm, { x: input, rstd, ...d }, rowsLive<L>);
    recordGatherRowsGrad(program, { token_rows, row_list: token_row_list, d_y: g.head_input, d_x: g.stream });
  }

  #recordLogits<L extends BatchLive>(program: Program<L>, chunk: HeadChunk): void {
    const hidden = this.#decoder.config.hidden_size;
    const { normed, logits } = this.#buffers.head;
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: normed,
      b: chunk.weight,
      c: logits,
      size: ({ rows }) => ({ m: rows, k: hidden }),
    });
  }
}

function rowsLive<L extends BatchLive>(live: L): number {
  return live.rows;
}

function chunkOf({ first_id, columns }: HeadChunk): { first_id: number; columns: number } {
  return { first_id, columns };
}
