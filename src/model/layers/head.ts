import { rowsOf as slice, type Tensor } from "../../gpu/mod.ts";
import { recordGatherRows, recordGatherRowsGrad } from "../../gpu/ops/gather_rows.ts";
import {
  recordAverageLogprobs,
  recordLogsumexp,
  recordLogsumexpGrad,
  type VocabularyChunk,
} from "../../gpu/ops/logprobs.ts";
import type { BatchCounts } from "../batch.ts";
import type { Decoder, TableRun } from "../decoder.ts";
import type { LayerContext } from "./context.ts";
import { NormLayer } from "./norm.ts";
import type { PassOptions } from "../pass_layers.ts";
import { recordInputGrad, recordOutput, recordWeightGrad } from "./products.ts";
import type { Recording } from "./recording.ts";

/** As PassOptions has them. */
type HeadOptions = Pick<PassOptions, "logits_bytes" | "coefficients" | "collisions">;

/** One chunk of the vocabulary: neighbouring rows of one table run. */
interface Chunk {
  readonly place: VocabularyChunk;
  /** [columns, hidden] */
  readonly weight: Tensor;
  readonly gradient: Tensor | null;
}

const LOGITS_BYTES = 16 * 2 ** 20;
/** Columns of a chunk are a multiple of it. */
export const CHUNK_ALIGNMENT = 64;
/** logsumexp.wgsl takes at most twice as many within the software driver's loop budget. */
const MAX_CHUNK_COLUMNS = 65_536;

/**
 * The last norm, the logits of the scored tokens and their log-probs: a chunk of the vocabulary at a time, so that nothing
 * of size [rows, vocabulary] exists.
 */
export class Head {
  /** [rows]: log-prob of every scored token. */
  readonly logprobs: Tensor;
  /** [sequences, 2]: mean log-prob of a response, and its mean logit. */
  readonly averages: Tensor;
  /** [rows, 4]: each row's largest logit, the sum of exp(logit - largest), the target's logit, the sum of logits. */
  readonly state: Tensor;
  /** [rows]: id of the likeliest token; null in training. */
  readonly likeliest: Tensor | null;
  /** [rows]: log sum_v p_v^2 of what each row predicts; null where nobody asks. */
  readonly collisions: Tensor | null;
  /** [sequences], or [rows]: the loss's gradient with respect to each token's log-prob; an objective writes it. */
  readonly coefficients: Tensor;
  readonly #norm: NormLayer;
  readonly #chunks: readonly Chunk[];
  /** input and normed [rows, hidden], the stream where it predicts a scored token; logits [rows, a chunk's columns] */
  readonly #tensors: Readonly<Record<"input" | "normed" | "logits", Tensor>>;
  /** null where nothing is trained. */
  readonly #gradients: Readonly<Record<"normed" | "input", Tensor>> | null;

  constructor(
    private readonly context: LayerContext,
    { norm, head }: Decoder,
    { logits_bytes = LOGITS_BYTES, coefficients = "sequence", collisions = false }: HeadOptions,
  ) {
    const { config, budget: { rows, sequences }, scratch, train } = context;
    const bytes = Math.min(logits_bytes, scratch.maxTensorBytes);
    const columns = Math.min(MAX_CHUNK_COLUMNS, bytes / 4 / rows);
    const aligned = Math.max(1, Math.floor(columns / CHUNK_ALIGNMENT)) * CHUNK_ALIGNMENT;
    this.#chunks = head.flatMap((run) => chunksOf(run, aligned));
    this.#norm = new NormLayer(config, norm, scratch, "head.rstd", rows, rowsOf);
    this.#tensors = {
      input: scratch.f32("head.input", rows, config.hidden_size),
      normed: scratch.f32("head.normed", rows, config.hidden_size),
      logits: scratch.f32("head.logits", rows, Math.max(...this.#chunks.map(({ place }) => place.columns))),
    };
    this.#gradients = !train ? null : {
      normed: scratch.f32("gradients.head_normed", rows, config.hidden_size),
      input: scratch.f32("gradients.head_input", rows, config.hidden_size),
    };
    this.state = scratch.f32("head.state", rows, 4);
    this.likeliest = train ? null : scratch.u32("head.likeliest", rows);
    this.collisions = collisions ? scratch.f32("head.collisions", rows) : null;
    this.logprobs = scratch.f32("head.logprobs", rows);
    this.averages = scratch.f32("head.averages", sequences, 2);
    this.coefficients = scratch.f32("head.coefficients", coefficients === "row" ? rows : sequences);
  }

  /** From the last block's output x to `logprobs` and `averages`. */
  forward(recording: Recording, x: Tensor): void {
    const { program } = recording;
    const { input, normed, logits } = this.#tensors;
    const { config, batch: { head_tokens: indices, targets, sequence_rows } } = this.context;
    const { state, likeliest: best, collisions, logprobs, averages } = this;
    const asked = collisions && { collisions };
    recordGatherRows(program, { indices, x, y: input });
    this.#norm.forward(recording, input, normed);
    for (const chunk of this.#chunks) {
      this.#recordLogits(recording, chunk);
      const tensors = { logits, targets, state, ...(best && { best }), ...asked };
      recordLogsumexp(program, tensors, { ...chunk.place, softcap: config.plan.logit_softcap });
    }
    const means = { state, sequence_rows, logprobs, averages, ...asked };
    recordAverageLogprobs(program, means, { vocabulary: config.vocab_size });
  }

  /** d_x = the gradient that follows from `coefficients`; adds to those of norm and table. */
  backward(recording: Recording, d_x: Tensor): void {
    const { program } = recording;
    const { input, normed, logits } = this.#tensors;
    const { config, batch: { targets, row_coefficients, token_rows, token_row_list } } = this.context;
    const { state, coefficients } = this;
    const { logit_scale: alpha, logit_softcap: softcap } = config.plan;
    const d = this.#gradients!;
    this.#chunks.forEach((chunk, i) => {
      // the logits of a vocabulary in one chunk are still there from the forward
      if (this.#chunks.length > 1) this.#recordLogits(recording, chunk);
      const tensors = { logits, targets, state, row_sequences: row_coefficients, coefficients };
      recordLogsumexpGrad(program, tensors, { ...chunk.place, softcap });
      const { weight: b, gradient: c } = chunk;
      recordInputGrad(recording, { a: logits, b, c: d.normed }, rowsOf, { alpha, accumulate: i > 0 });
      if (c) recordWeightGrad(recording, { a: logits, b: normed, c }, rowsOf, alpha);
    });
    program.clear(d.input);
    this.#norm.backward(recording, input, d.normed, d.input);
    recordGatherRowsGrad(program, { token_rows, row_list: token_row_list, d_y: d.input, d_x });
  }

  #recordLogits(recording: Recording, { weight }: Chunk): void {
    const { normed, logits } = this.#tensors;
    const { logit_scale: alpha } = this.context.config.plan;
    recordOutput(recording, { a: normed, b: weight, c: logits }, rowsOf, { alpha });
  }
}

function rowsOf({ rows }: BatchCounts): number {
  return rows;
}

/** Chunks of at most `columns` vocabulary entries, none across two runs. */
function chunksOf({ first_row, rows: { value, gradient } }: TableRun, columns: number): Chunk[] {
  const height = value.shape[0]!;
  return Array.from({ length: Math.ceil(height / columns) }, (_, i) => {
    const first = i * columns;
    const count = Math.min(columns, height - first);
    return {
      place: { first_id: first_row + first, columns: count },
      weight: slice(value, first, count),
      gradient: gradient && slice(gradient, first, count),
    };
  });
}
