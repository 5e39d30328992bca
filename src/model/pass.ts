/**
 * The decoder's equations, forward and backward, recorded once for a budget of tokens and replayed for every batch.
 *
 * @module
 */
import { dtypeBytes, type Gpu, type Live, type Program, rowsOf, type Tensor } from "../gpu/mod.ts";
import { type AttentionShape, recordAttention, recordAttentionGrad } from "../gpu/ops/attention.ts";
import {
  recordCopy,
  recordDropout,
  recordGatedActivation,
  recordGatedActivationGrad,
} from "../gpu/ops/elementwise.ts";
import { recordEmbedding, recordEmbeddingGrad } from "../gpu/ops/embedding.ts";
import { recordGatherRows, recordGatherRowsGrad } from "../gpu/ops/gather_rows.ts";
import { recordAverageLogprobs, recordLogsumexp, recordLogsumexpGrad } from "../gpu/ops/logprobs.ts";
import { recordMatmul } from "../gpu/ops/matmul.ts";
import { recordRmsNorm, recordRmsNormGrad } from "../gpu/ops/rms_norm.ts";
import { recordRope, ropeRotations } from "../gpu/ops/rope.ts";
import type { PackedBatch } from "../preference/pack.ts";
import { type ModelConfig, ropeFrequencies } from "./config.ts";
import type { Block, Decoder, Linear, TableRun } from "./decoder.ts";

/** How much of the budget an uploaded batch fills. */
export interface BatchCounts {
  readonly tokens: number;
  /** Scored tokens. */
  readonly rows: number;
  /** Responses. */
  readonly sequences: number;
  /** Distinct token ids; 0 where the embedding is frozen. */
  readonly distinct: number;
}

/** Live numbers of one batch. */
export interface BatchLive extends Live, BatchCounts {
  /** 0: nothing is dropped. */
  readonly dropout_seed: number;
}

/** The most that one batch may hold. */
export interface Budget {
  readonly tokens: number;
  /** Scored tokens. */
  readonly rows: number;
  /** Responses. */
  readonly sequences: number;
}

/** What a pass is for, and what it keeps. */
export interface PassOptions {
  /** `score`: forward only, one set of activations for all blocks. `train`: also what the backward needs. */
  readonly mode: "score" | "train";
  /** In training, keep only each block's input and compute the rest again in the backward. */
  readonly recompute?: boolean;
  /** Bytes of logits that exist at one time, whatever the vocabulary; 16 MiB unless given. */
  readonly logits_bytes?: number;
}

/** What a block's backward needs of its forward. */
interface BlockActivations {
  /** [tokens] */
  readonly input_rstd: Tensor;
  /** [tokens, heads * head_dim], rotated */
  readonly q: Tensor;
  /** [tokens, kv_heads * head_dim], rotated */
  readonly k: Tensor;
  readonly v: Tensor;
  readonly attended: Tensor;
  /** [tokens, heads] */
  readonly lse: Tensor;
  /** [tokens, hidden]: the stream between attention and mlp */
  readonly middle: Tensor;
  readonly middle_rstd: Tensor;
  /** [tokens, intermediate] */
  readonly gate: Tensor;
  readonly up: Tensor;
}

const LOGITS_BYTES = 16 * 2 ** 20;
const CHUNK_ALIGNMENT = 64;
/** logsumexp.wgsl takes at most twice as many within the software driver's loop budget. */
const MAX_CHUNK_COLUMNS = 65_536;

/**
 * The most tokens that one batch of a model may have on this device, whose bindings limit a tensor's size.
 *
 * @param rank LoRA's r
 */
export function mostTokens(gpu: Gpu, config: ModelConfig, rank = 0): number {
  const { hidden_size, intermediate_size, num_attention_heads, head_dim } = config;
  const widest = Math.max(
    hidden_size,
    intermediate_size,
    num_attention_heads * head_dim,
    rank,
    CHUNK_ALIGNMENT, // columns of logits at least
  );
  return Math.floor(gpu.maxTensorBytes / (widest * dtypeBytes("f32")));
}

/** One chunk of the vocabulary: neighbouring rows of one table run. */
interface HeadChunk {
  readonly first_id: number;
  readonly columns: number;
  /** [columns, hidden] */
  readonly weight: Tensor;
  readonly gradient: Tensor | null;
}

/**
 * Buffers of one decoder at one budget. `upload` a batch, then run a program into which {@link recordForward} and
 * {@link recordBackward} were recorded.
 */
export class DecoderPass {
  readonly budget: Budget;
  /** [rows]: log-prob of every scored token. */
  readonly logprobs: Tensor;
  /** [sequences, 2]: mean log-prob of a response, and its mean logit. */
  readonly averages: Tensor;
  /** [sequences]: the loss's gradient with respect to each token's log-prob; an objective writes it. */
  readonly coefficients: Tensor;
  /** [sequences + 1] */
  readonly sequence_rows: Tensor;

  readonly #gpu: Gpu;
  readonly #decoder: Decoder;
  readonly #attention: AttentionShape;
  readonly #options: PassOptions;
  readonly #tensors: Tensor[] = [];
  readonly #batch: Readonly<
    Record<
      | "token_ids"
      | "positions"
      | "spans"
      | "head_tokens"
      | "targets"
      | "row_sequences"
      | "token_rows"
      | "token_row_list"
      | "ids"
      | "id_offsets"
      | "id_tokens",
      Tensor
    >
  >;
  readonly #rotations: Tensor;
  /** The stream before each block and after the last; one tensor where nothing is kept. */
  readonly #streams: readonly Tensor[];
  readonly #activations: readonly BlockActivations[];
  readonly #normed: Tensor;
  readonly #gated: Tensor;
  readonly #dropped: Tensor | null;
  readonly #low_rank: Tensor | null;
  readonly #head: {
    readonly input: Tensor;
    readonly rstd: Tensor;
    readonly normed: Tensor;
    readonly logits: Tensor;
    readonly state: Tensor;
    readonly chunks: readonly HeadChunk[];
  };
  readonly #gradients: {
    readonly stream: Tensor;
    readonly normed: Tensor;
    readonly q: Tensor;
    readonly k: Tensor;
    readonly v: Tensor;
    readonly attended: Tensor;
    readonly delta: Tensor;
    readonly gated: Tensor;
    readonly low_rank: Tensor | null;
    readonly head_normed: Tensor;
    readonly head_input: Tensor;
  } | null;

  /**
   * @throws {GpuMemoryError} where the buffers do not fit
   * @throws {RangeError} where the budget passes {@link mostTokens}
   */
  constructor(gpu: Gpu, decoder: Decoder, budget: Budget, options: PassOptions) {
    this.#gpu = gpu;
    this.#decoder = decoder;
    this.#options = options;
    this.budget = budget;
    const { config } = decoder;
    const { tokens, rows, sequences } = budget;
    const { hidden_size: hidden, intermediate_size: wide, head_dim } = config;
    const queries = config.num_attention_heads * head_dim;
    const keys = config.num_key_value_heads * head_dim;
    this.#attention = {
      heads: config.num_attention_heads,
      kv_heads: config.num_key_value_heads,
      head_dim,
      scale: 1 / Math.sqrt(head_dim),
    };
    try {
      const f32 = (name: string, ...shape: number[]) =>
        this.#own(gpu.tensor(`${options.mode}.${name}`, shape));
      const u32 = (name: string, ...shape: number[]) =>
        this.#own(gpu.tensor(`${options.mode}.${name}`, shape, "u32"));
      this.#batch = {
        token_ids: u32("batch.token_ids", tokens),
        positions: u32("batch.positions", tokens),
        spans: u32("batch.spans", tokens, 4),
        head_tokens: u32("batch.head_tokens", rows),
        targets: u32("batch.targets", rows),
        row_sequences: u32("batch.row_sequences", rows),
        token_rows: u32("batch.token_rows", tokens + 1),
        token_row_list: u32("batch.token_row_list", rows),
        ids: u32("batch.ids", tokens),
        id_offsets: u32("batch.id_offsets", tokens + 1),
        id_tokens: u32("batch.id_tokens", tokens),
      };
      this.sequence_rows = u32("batch.sequence_rows", sequences + 1);
      const rotations = ropeRotations(ropeFrequencies(config), tokens);
      this.#rotations = this.#own(
        gpu.upload(`${options.mode}.rotations`, [tokens, head_dim / 2, 2], rotations),
      );

      const train = options.mode === "train";
      const sets = train && !options.recompute ? config.num_hidden_layers : 1;
      const stream = f32("stream", tokens, hidden);
      this.#streams = train
        ? [stream, ...decoder.blocks.map((_, layer) => f32(`stream.${layer}`, tokens, hidden))]
        : new Array(config.num_hidden_layers + 1).fill(stream);
      const activations = Array.from({ length: sets }, (): BlockActivations => ({
        input_rstd: f32("activations.rstd", tokens),
        q: f32("activations.q", tokens, queries),
        k: f32("activations.k", tokens, keys),
        v: f32("activations.v", tokens, keys),
        attended: f32("activations.attended", tokens, queries),
        lse: f32("activations.lse", tokens, config.num_attention_heads),
        middle: train ? f32("activations.middle", tokens, hidden) : stream,
        middle_rstd: f32("activations.rstd", tokens),
        gate: f32("activations.gate", tokens, wide),
        up: f32("activations.up", tokens, wide),
      }));
      this.#activations = decoder.blocks.map((_, layer) => activations[layer % sets]!);
      this.#normed = f32("scratch.normed", tokens, hidden);
      this.#gated = f32("scratch.gated", tokens, wide);
      const loras = decoder.blocks.flatMap((block) => linears(block).map((linear) => linear.lora)).filter((
        lora,
      ) => lora !== null);
      const rank = Math.max(0, ...loras.map((lora) => lora.a.value.shape[0]!));
      this.#low_rank = rank > 0 ? f32("scratch.low_rank", tokens, rank) : null;
      this.#dropped = train && loras.some((lora) => lora.dropout > 0)
        ? f32("scratch.dropped", tokens, Math.max(hidden, queries, wide))
        : null;

      const logitsBytes = Math.min(options.logits_bytes ?? LOGITS_BYTES, gpu.maxTensorBytes);
      const columns = Math.min(MAX_CHUNK_COLUMNS, logitsBytes / 4 / rows);
      const chunkColumns = Math.max(1, Math.floor(columns / CHUNK_ALIGNMENT)) * CHUNK_ALIGNMENT;
      const chunks = decoder.head.flatMap((run) => headChunks(run, chunkColumns));
      this.#head = {
        input: f32("head.input", rows, hidden),
        rstd: f32("head.rstd", rows),
        normed: f32("head.normed", rows, hidden),
        logits: f32("head.logits", rows, Math.max(...chunks.map((chunk) => chunk.columns))),
        state: f32("head.state", rows, 4),
        chunks,
      };
      this.logprobs = f32("head.logprobs", rows);
      this.averages = f32("head.averages", sequences, 2);
      this.coefficients = f32("head.coefficients", sequences);

      this.#gradients = !train ? null : {
        stream: f32("gradients.stream", tokens, hidden),
        normed: f32("gradients.normed", tokens, hidden),
        q: f32("gradients.q", tokens, queries),
        k: f32("gradients.k", tokens, keys),
        v: f32("gradients.v", tokens, keys),
        attended: f32("gradients.attended", tokens, queries),
        delta: f32("gradients.delta", tokens, config.num_attention_heads),
        gated: f32("gradients.gated", tokens, wide),
        low_rank: rank > 0 ? f32("gradients.low_rank", tokens, rank) : null,
        head_normed: f32("gradients.head_normed", rows, hidden),
        head_input: f32("gradients.head_input", rows, hidden),
      };
    } catch (error) {
      this.free();
      throw error;
    }
  }

  /**
   * Queues a batch for the next run.
   *
   * @throws {RangeError} where it passes the budget
   */
  upload(batch: PackedBatch): BatchCounts {
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
    gpu.write(this.#batch.token_ids, batch.token_ids);
    gpu.write(this.#batch.positions, batch.positions);
    gpu.write(this.#batch.spans, batch.spans);
    gpu.write(this.#batch.head_tokens, batch.head_tokens);
    gpu.write(this.#batch.targets, batch.targets);
    gpu.write(this.#batch.token_rows, batch.token_rows);
    gpu.write(this.#batch.token_row_list, batch.token_row_list);
    gpu.write(this.sequence_rows, batch.sequence_rows);
    const rowSequences = new Uint32Array(rows);
    for (let s = 0; s < sequences; s++) {
      rowSequences.fill(s, batch.sequence_rows[s], batch.sequence_rows[s + 1]);
    }
    gpu.write(this.#batch.row_sequences, rowSequences);
    let distinct = 0;
    if (this.#options.mode === "train" && this.#decoder.embedding[0]!.rows.gradient) {
      const byId = tokensById(batch.token_ids);
      gpu.write(this.#batch.ids, byId.ids);
      gpu.write(this.#batch.id_offsets, byId.id_offsets);
      gpu.write(this.#batch.id_tokens, byId.id_tokens);
      distinct = byId.ids.length;
    }
    return { tokens, rows, sequences, distinct };
  }

  /** Records embedding, blocks and head, up to `logprobs` and `averages`. */
  recordForward<L extends BatchLive>(program: Program<L>): void {
    const { embedding, blocks } = this.#decoder;
    for (const { first_row, rows } of embedding) {
      const x = this.#streams[0]!;
      recordEmbedding(program, { token_ids: this.#batch.token_ids, table: rows.value, x }, first_row);
    }
    blocks.forEach((block, layer) => {
      this.#recordBlock(program, block, layer);
      this.#recordMlpOutput(program, block, layer);
    });
    this.#recordHead(program);
  }

  /** Records the backward pass from `coefficients`: adds to the gradient of every trained parameter. */
  recordBackward<L extends BatchLive>(program: Program<L>): void {
    const gradients = this.#gradients;
    if (!gradients) throw new Error("A pass for scoring keeps nothing that a backward pass could use.");
    this.#recordHeadGrad(program);
    const { blocks, embedding } = this.#decoder;
    const embeddingTrained = embedding[0]!.rows.gradient !== null;
    const lowest = embeddingTrained ? 0 : blocks.findIndex(isTrained);
    if (lowest < 0) return;
    const last = blocks.length - 1;
    for (let layer = last; layer >= lowest; layer--) {
      // the last block's activations are still there from the forward
      if (this.#options.recompute && layer < last) this.#recordBlock(program, blocks[layer]!, layer);
      this.#recordBlockGrad(program, blocks[layer]!, layer, layer > lowest || embeddingTrained);
    }
    for (const { first_row, rows } of embedding) {
      if (!rows.gradient) continue;
      const { ids, id_offsets, id_tokens } = this.#batch;
      const tensors = { ids, id_offsets, id_tokens, d_x: gradients.stream, d_table: rows.gradient };
      recordEmbeddingGrad(program, tensors, first_row);
    }
  }

  /** Lets go of all buffers; the decoder's weights are not among them. */
  free(): void {
    this.#gpu.free(...this.#tensors.splice(0));
  }

  /** A block up to its gate and up projections. */
  #recordBlock<L extends BatchLive>(program: Program<L>, block: Block, layer: number): void {
    const x = this.#streams[layer]!;
    const act = this.#activations[layer]!;
    const normed = this.#normed;
    this.#recordNorm(program, x, block.input_norm.value, act.input_rstd);
    this.#recordLinear(program, block.q_proj, normed, act.q, false);
    this.#recordLinear(program, block.k_proj, normed, act.k, false);
    this.#recordLinear(program, block.v_proj, normed, act.v, false);
    this.#recordRotation(program, act.q, act.k, 1);
    const { spans, positions } = this.#batch;
    const { q, k, v, attended: o, lse } = act;
    recordAttention(this.#gpu, program, this.#attention, { q, k, v, spans, positions, o, lse });
    if (act.middle !== x) this.#recordStreamCopy(program, x, act.middle);
    this.#recordLinear(program, block.o_proj, act.attended, act.middle, true);
    this.#recordNorm(program, act.middle, block.post_attention_norm.value, act.middle_rstd);
    this.#recordLinear(program, block.gate_proj, normed, act.gate, false);
    this.#recordLinear(program, block.up_proj, normed, act.up, false);
  }

  #recordMlpOutput<L extends BatchLive>(program: Program<L>, block: Block, layer: number): void {
    const { gate, up, middle } = this.#activations[layer]!;
    const out = this.#streams[layer + 1]!;
    this.#recordGated(program, gate, up);
    if (out !== middle) this.#recordStreamCopy(program, middle, out);
    this.#recordLinear(program, block.down_proj, this.#gated, out, true);
  }

  /** Turns `gradients.stream` from the gradient of the block's output into that of its input. */
  #recordBlockGrad<L extends BatchLive>(
    program: Program<L>,
    block: Block,
    layer: number,
    toInput: boolean,
  ): void {
    const act = this.#activations[layer]!;
    const g = this.#gradients!;
    const normed = this.#normed;
    const rows = tokensOf<L>;

    this.#recordGated(program, act.gate, act.up);
    this.#recordLinearGrad(program, block.down_proj, this.#gated, g.stream, g.gated, false);
    const wide = this.#decoder.config.intermediate_size;
    recordGatedActivationGrad(
      program,
      "silu",
      { d_y: g.gated, gate: act.gate, up: act.up },
      ({ tokens }) => tokens * wide,
    );
    this.#recordNorm(program, act.middle, block.post_attention_norm.value, act.middle_rstd);
    this.#recordLinearGrad(program, block.gate_proj, normed, act.gate, g.normed, false);
    this.#recordLinearGrad(program, block.up_proj, normed, act.up, g.normed, true);
    recordRmsNormGrad(this.#gpu, program, {
      x: act.middle,
      weight: block.post_attention_norm.value,
      rstd: act.middle_rstd,
      d_y: g.normed,
      d_x: g.stream,
      d_weight: block.post_attention_norm.gradient,
    }, rows);

    this.#recordLinearGrad(program, block.o_proj, act.attended, g.stream, g.attended, false);
    const { q, k, v, attended: o, lse } = act;
    const { spans, positions } = this.#batch;
    const d = { d_o: g.attended, delta: g.delta, d_q: g.q, d_k: g.k, d_v: g.v };
    recordAttentionGrad(this.#gpu, program, this.#attention, { q, k, v, o, lse, spans, positions, ...d });
    this.#recordRotation(program, g.q, g.k, -1);

    this.#recordNorm(program, this.#streams[layer]!, block.input_norm.value, act.input_rstd);
    const d_normed = toInput || block.input_norm.gradient ? g.normed : null;
    this.#recordLinearGrad(program, block.q_proj, normed, g.q, d_normed, false);
    this.#recordLinearGrad(program, block.k_proj, normed, g.k, d_normed, true);
    this.#recordLinearGrad(program, block.v_proj, normed, g.v, d_normed, true);
    if (!d_normed) return;
    recordRmsNormGrad(this.#gpu, program, {
      x: this.#streams[layer]!,
      weight: block.input_norm.value,
      rstd: act.input_rstd,
      d_y: d_normed,
      d_x: g.stream,
      d_weight: block.input_norm.gradient,
    }, rows);
  }

  #recordHead<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, state, chunks } = this.#head;
    const { config, norm } = this.#decoder;
    const { head_tokens: indices, targets } = this.#batch;
    recordGatherRows(program, { indices, x: this.#streams.at(-1)!, y: input });
    const rows = rowsLive<L>;
    recordRmsNorm(
      this.#gpu,
      program,
      { x: input, weight: norm.value, rstd, y: normed },
      config.rms_norm_eps,
      rows,
    );
    for (const chunk of chunks) {
      this.#recordLogits(program, chunk);
      recordLogsumexp(this.#gpu, program, { logits, targets, state }, chunkOf(chunk));
    }
    const { sequence_rows, logprobs, averages } = this;
    recordAverageLogprobs(program, { state, sequence_rows, logprobs, averages }, config.vocab_size);
  }

  #recordHeadGrad<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, state, chunks } = this.#head;
    const { norm, config } = this.#decoder;
    const { targets, row_sequences, token_rows, token_row_list } = this.#batch;
    const g = this.#gradients!;
    const hidden = config.hidden_size;
    chunks.forEach((chunk, i) => {
      // the logits of a vocabulary in one chunk are still there from the forward
      if (chunks.length > 1) this.#recordLogits(program, chunk);
      const { coefficients } = this;
      recordLogsumexpGrad(
        this.#gpu,
        program,
        { logits, targets, state, row_sequences, coefficients },
        chunkOf(chunk),
      );
      recordMatmul(this.#gpu, program, {
        layout: "NN",
        a: logits,
        b: chunk.weight,
        c: g.head_normed,
        size: ({ rows }) => ({ m: rows, n: hidden, k: chunk.columns }),
        accumulate: i > 0,
      });
      if (!chunk.gradient) return;
      recordMatmul(this.#gpu, program, {
        layout: "TN",
        a: logits,
        b: normed,
        c: chunk.gradient,
        size: ({ rows }) => ({ m: chunk.columns, n: hidden, k: rows }),
        accumulate: true,
      });
    });
    program.clear(g.head_input);
    recordRmsNormGrad(this.#gpu, program, {
      x: input,
      weight: norm.value,
      rstd,
      d_y: g.head_normed,
      d_x: g.head_input,
      d_weight: norm.gradient,
    }, rowsLive<L>);
    recordGatherRowsGrad(program, { token_rows, row_list: token_row_list, d_y: g.head_input, d_x: g.stream });
  }

  #recordLogits<L extends BatchLive>(program: Program<L>, chunk: HeadChunk): void {
    const hidden = this.#decoder.config.hidden_size;
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: this.#head.normed,
      b: chunk.weight,
      c: this.#head.logits,
      size: ({ rows }) => ({ m: rows, n: chunk.columns, k: hidden }),
    });
  }

  /** y (+)= x W^T + scale * (dropout(x) A^T) B^T */
  #recordLinear<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    y: Tensor,
    accumulate: boolean,
  ): void {
    const [n, k] = linear.weight.value.shape as [number, number];
    const b = linear.weight.value;
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: x,
      b,
      c: y,
      size: ({ tokens: m }) => ({ m, n, k }),
      accumulate,
    });
    const { lora } = linear;
    if (!lora) return;
    const r = lora.a.value.shape[0]!;
    this.#recordLowRank(program, linear, x);
    recordMatmul(this.#gpu, program, {
      layout: "NT",
      a: this.#lowRank(r),
      b: lora.b.value,
      c: y,
      size: ({ tokens: m }) => ({ m, n, k: r }),
      alpha: lora.scale,
      accumulate: true,
    });
  }

  /** low_rank = dropout(x) A^T. @returns dropout(x) */
  #recordLowRank<L extends BatchLive>(program: Program<L>, { lora }: Linear, x: Tensor): Tensor {
    const [r, k] = lora!.a.value.shape as [number, number];
    let a = x;
    if (lora!.dropout > 0 && this.#dropped) {
      a = { ...this.#dropped, shape: [this.budget.tokens, k] };
      const { dropout: rate, stream } = lora!;
      recordDropout(program, { x, y: a }, { rate, stream, accumulate: false }, ({ tokens }) => tokens * k);
    }
    const size = ({ tokens: m }: L) => ({ m, n: r, k });
    recordMatmul(this.#gpu, program, { layout: "NT", a, b: lora!.a.value, c: this.#lowRank(r), size });
    return a;
  }

  /** d_x (+)= d_y W and LoRA's part; adds to the gradients of W, A and B where they are trained. */
  #recordLinearGrad<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    d_y: Tensor,
    d_x: Tensor | null,
    accumulate: boolean,
  ): void {
    const gpu = this.#gpu;
    const { weight, lora } = linear;
    const [n, k] = weight.value.shape as [number, number];
    const weightGradient = (a: Tensor, b: Tensor, c: Tensor, rows: number, columns: number, alpha = 1) =>
      recordMatmul(gpu, program, {
        layout: "TN",
        a,
        b,
        c,
        size: ({ tokens }) => ({ m: rows, n: columns, k: tokens }),
        alpha,
        accumulate: true,
      });
    if (weight.gradient) weightGradient(d_y, x, weight.gradient, n, k);
    if (d_x) {
      const size = ({ tokens: m }: L) => ({ m, n: k, k: n });
      recordMatmul(gpu, program, { layout: "NN", a: d_y, b: weight.value, c: d_x, size, accumulate });
    }
    if (!lora) return;
    const r = lora.a.value.shape[0]!;
    const dropped = this.#recordLowRank(program, linear, x);
    if (lora.b.gradient) weightGradient(d_y, this.#lowRank(r), lora.b.gradient, n, r, lora.scale);
    const d_low: Tensor = { ...this.#gradients!.low_rank!, shape: [this.budget.tokens, r] };
    const d_lowSize = ({ tokens: m }: L) => ({ m, n: r, k: n });
    recordMatmul(gpu, program, {
      layout: "NN",
      a: d_y,
      b: lora.b.value,
      c: d_low,
      size: d_lowSize,
      alpha: lora.scale,
    });
    if (lora.a.gradient) weightGradient(d_low, dropped, lora.a.gradient, r, k);
    if (!d_x) return;
    const masked = dropped !== x;
    const c = masked ? dropped : d_x;
    const size = ({ tokens: m }: L) => ({ m, n: k, k: r });
    recordMatmul(gpu, program, { layout: "NN", a: d_low, b: lora.a.value, c, size, accumulate: !masked });
    if (!masked) return;
    const { dropout: rate, stream } = lora;
    recordDropout(program, { x: c, y: d_x }, { rate, stream, accumulate: true }, ({ tokens }) => tokens * k);
  }

  #recordNorm<L extends BatchLive>(program: Program<L>, x: Tensor, weight: Tensor, rstd: Tensor): void {
    const eps = this.#decoder.config.rms_norm_eps;
    recordRmsNorm(this.#gpu, program, { x, weight, rstd, y: this.#normed }, eps, tokensOf<L>);
  }

  #recordRotation<L extends BatchLive>(program: Program<L>, q: Tensor, k: Tensor, direction: 1 | -1): void {
    const { num_attention_heads, num_key_value_heads } = this.#decoder.config;
    const shared = { positions: this.#batch.positions, rotations: this.#rotations };
    recordRope(program, { x: q, ...shared }, num_attention_heads, direction);
    recordRope(program, { x: k, ...shared }, num_key_value_heads, direction);
  }

  #recordGated<L extends BatchLive>(program: Program<L>, gate: Tensor, up: Tensor): void {
    const wide = this.#decoder.config.intermediate_size;
    recordGatedActivation(program, "silu", { gate, up, y: this.#gated }, ({ tokens }) => tokens * wide);
  }

  #recordStreamCopy<L extends BatchLive>(program: Program<L>, from: Tensor, to: Tensor): void {
    const hidden = this.#decoder.config.hidden_size;
    recordCopy(program, from, to, ({ tokens }) => tokens * hidden);
  }

  #lowRank(r: number): Tensor {
    return { ...this.#low_rank!, shape: [this.budget.tokens, r] };
  }

  #own(tensor: Tensor): Tensor {
    this.#tensors.push(tensor);
    return tensor;
  }
}

function linears(block: Block): Linear[] {
  const { q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj } = block;
  return [q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj];
}

function isTrained(block: Block): boolean {
  return block.input_norm.gradient !== null ||
    linears(block).some(({ weight, lora }) => weight.gradient || lora?.a.gradient);
}

function tokensOf<L extends BatchLive>(live: L): number {
  return live.tokens;
}

function rowsLive<L extends BatchLive>(live: L): number {
  return live.rows;
}

function chunkOf({ first_id, columns }: HeadChunk): { first_id: number; columns: number } {
  return { first_id, columns };
}

/** Chunks of at most `columns` vocabulary entries, none across two runs. */
function headChunks(run: TableRun, columns: number): HeadChunk[] {
  const { value, gradient } = run.rows;
  const height = value.shape[0]!;
  const chunks: HeadChunk[] = [];
  for (let first = 0; first < height; first += columns) {
    const count = Math.min(columns, height - first);
    chunks.push({
      first_id: run.first_row + first,
      columns: count,
      weight: rowsOf(value, first, count),
      gradient: gradient && rowsOf(gradient, first, count),
    });
  }
  return chunks;
}

/** Lists each distinct id once with the tokens that have it. */
export function tokensById(token_ids: Uint32Array): Record<"ids" | "id_offsets" | "id_tokens", Uint32Array> {
  const id_tokens = Uint32Array.from(token_ids.keys()).sort((a, b) => token_ids[a]! - token_ids[b]! || a - b);
  const ids: number[] = [];
  const offsets: number[] = [];
  id_tokens.forEach((token, place) => {
    const id = token_ids[token]!;
    if (ids.at(-1) === id) return;
    ids.push(id);
    offsets.push(place);
  });
  return {
    ids: Uint32Array.from(ids),
    id_offsets: Uint32Array.from([...offsets, id_tokens.length]),
    id_tokens,
  };
}
