/**
 * The decoder's equations, forward and backward, recorded once for a budget of tokens and replayed for every batch.
 *
 * @module
 */
import { dtypeBytes, type Gpu, type Program, rowsOf, type Tensor } from "../gpu/mod.ts";
import { type AttentionShape, recordAttention, recordAttentionGrad } from "../gpu/ops/attention.ts";
import {
  recordActivation,
  recordActivationGrad,
  recordAdd,
  recordCopy,
  recordGatedActivation,
  recordGatedActivationGrad,
} from "../gpu/ops/elementwise.ts";
import { recordCopyColumns } from "../gpu/ops/columns.ts";
import { recordAddRows, recordEmbedding, recordEmbeddingGrad } from "../gpu/ops/embedding.ts";
import { recordGatherRows, recordGatherRowsGrad } from "../gpu/ops/gather_rows.ts";
import { recordAverageLogprobs, recordLogsumexp, recordLogsumexpGrad } from "../gpu/ops/logprobs.ts";
import { recordMatmul } from "../gpu/ops/matmul.ts";
import { recordRope, ropeRotations } from "../gpu/ops/rope.ts";
import type { PackedBatch } from "../preference/pack.ts";

import type { BatchCounts, BatchLive, Budget } from "./batch.ts";
import type { LinearLayer } from "./families/family.ts";
import type { ModelConfig } from "./config.ts";
import type { Block, Decoder, Linear, Norm, TableRun } from "./decoder.ts";
import { LinearRecorder } from "./linear.ts";
import { NormRecorder } from "./norm.ts";
import { dependsOnLength, ropeAttentionFactor, ropeFrequencies, type RopeSettings } from "./rope.ts";

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
  /** [tokens], as NormRecorder has it */
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
  /** [tokens, intermediate]; null where the mlp has none. */
  readonly gate: Tensor | null;
  /** [tokens, intermediate] */
  readonly up: Tensor;
  /** Queries and keys before their norms, a row a head; where the family norms them. */
  readonly raw_q?: NormInput;
  readonly raw_k?: NormInput;
  /** What attention and mlp give before their norms; where the family norms them. */
  readonly attention_output?: NormInput;
  readonly mlp_output?: NormInput;
}

/** The angles of one set of rotary settings. */
interface RopeTable {
  readonly rope: RopeSettings;
  /** [rows, rotary_dim / 2, 2] (cos, sin) */
  readonly rotations: Tensor;
  /** [tokens]: each token's row */
  readonly rows: Tensor;
}

/** What a norm's backward needs. */
interface NormInput {
  /** [rows, columns] */
  readonly value: Tensor;
  /** [rows], as NormRecorder has it */
  readonly rstd: Tensor;
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
    joinedWidth(config),
    rank,
    CHUNK_ALIGNMENT, // columns of logits at least
  );
  return Math.floor(gpu.maxTensorBytes / (widest * dtypeBytes("f32")));
}

/** Columns of the widest fused projection; 0 where there is none. */
function joinedWidth(config: ModelConfig): number {
  const { num_attention_heads, num_key_value_heads, head_dim, intermediate_size, traits } = config;
  if (!traits.fused_projections) return 0;
  const qkv = (num_attention_heads + 2 * num_key_value_heads) * head_dim;
  return traits.gated_mlp ? Math.max(qkv, 2 * intermediate_size) : qkv;
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
  /** One a block. */
  readonly #attention: readonly AttentionShape[];
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
      | "id_tokens"
      | "position_ids"
      | "position_offsets"
      | "position_tokens",
      Tensor
    >
  >;
  readonly #ropes: readonly RopeTable[];
  /** The stream before each block and after the last; one tensor where nothing is kept. */
  readonly #streams: readonly Tensor[];
  readonly #activations: readonly BlockActivations[];
  readonly #normed: Tensor;
  readonly #gated: Tensor;
  readonly #linear: LinearRecorder;
  readonly #norm: NormRecorder;
  /** Outputs of fused projections, before they are taken apart. */
  readonly #joined: Tensor | null;
  readonly #head: {
    readonly input: Tensor;
    readonly rstd: Tensor;
    readonly normed: Tensor;
    readonly logits: Tensor;
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
    /** Of queries and keys before their norms. */
    readonly raw_q?: Tensor;
    readonly raw_k?: Tensor;
    /** Of a branch's output before its norm. */
    readonly branch?: Tensor;
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
    const { traits } = config;
    this.#attention = traits.layers.map(({ window }) => ({
      heads: config.num_attention_heads,
      kv_heads: config.num_key_value_heads,
      head_dim,
      scale: traits.query_scale,
      window,
      softcap: traits.attention_softcap,
    }));
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
        position_ids: u32("batch.position_ids", tokens),
        position_offsets: u32("batch.position_offsets", tokens + 1),
        position_tokens: u32("batch.position_tokens", tokens),
      };
      this.sequence_rows = u32("batch.sequence_rows", sequences + 1);
      const tokenIndices = () =>
        this.#own(
          gpu.upload(
            `${options.mode}.token_indices`,
            [tokens],
            Uint32Array.from({ length: tokens }, (_, i) => i),
          ),
        );
      this.#ropes = traits.ropes.map((rope) => {
        const rotations = f32("rotations", tokens, rope.rotary_dim / 2, 2);
        // angles that depend on the sequence's length are computed for every batch, a row a token
        if (dependsOnLength(rope)) return { rope, rotations, rows: tokenIndices() };
        gpu.write(rotations, ropeRotations(ropeFrequencies(rope), tokens, ropeAttentionFactor(rope)));
        return { rope, rotations, rows: this.#batch.positions };
      });

      const train = options.mode === "train";
      const sets = train && !options.recompute ? config.num_hidden_layers : 1;
      const stream = f32("stream", tokens, hidden);
      this.#streams = train
        ? [stream, ...decoder.blocks.map((_, layer) => f32(`stream.${layer}`, tokens, hidden))]
        : new Array(config.num_hidden_layers + 1).fill(stream);
      this.#norm = new NormRecorder(gpu, config);
      const rstd = (name: string, rows: number) => f32(name, ...this.#norm.rstdShape(rows));
      const normed = (name: string, rows: number, columns: number): NormInput => ({
        value: f32(name, rows, columns),
        rstd: rstd(`${name}_rstd`, rows),
      });
      const activations = Array.from({ length: sets }, (): BlockActivations => ({
        input_rstd: rstd("activations.rstd", tokens),
        q: f32("activations.q", tokens, queries),
        k: f32("activations.k", tokens, keys),
        v: f32("activations.v", tokens, keys),
        attended: f32("activations.attended", tokens, queries),
        lse: f32("activations.lse", tokens, config.num_attention_heads),
        middle: train ? f32("activations.middle", tokens, hidden) : stream,
        middle_rstd: rstd("activations.rstd", tokens),
        gate: traits.gated_mlp ? f32("activations.gate", tokens, wide) : null,
        up: f32("activations.up", tokens, wide),
        ...(traits.qk_norm && {
          raw_q: normed("activations.raw_q", tokens * config.num_attention_heads, head_dim),
          raw_k: normed("activations.raw_k", tokens * config.num_key_value_heads, head_dim),
        }),
        ...(traits.sandwich_norms && {
          attention_output: normed("activations.attention_output", tokens, hidden),
          mlp_output: normed("activations.mlp_output", tokens, hidden),
        }),
      }));
      this.#activations = decoder.blocks.map((_, layer) => activations[layer % sets]!);
      this.#normed = f32("scratch.normed", tokens, hidden);
      this.#gated = f32("scratch.gated", tokens, wide);
      this.#linear = new LinearRecorder(gpu, decoder.blocks.flatMap(linearsOf), tokens, train, f32);
      this.#joined = traits.fused_projections ? f32("scratch.joined", tokens, joinedWidth(config)) : null;

      const logitsBytes = Math.min(options.logits_bytes ?? LOGITS_BYTES, gpu.maxTensorBytes);
      const columns = Math.min(MAX_CHUNK_COLUMNS, logitsBytes / 4 / rows);
      const chunkColumns = Math.max(1, Math.floor(columns / CHUNK_ALIGNMENT)) * CHUNK_ALIGNMENT;
      const chunks = decoder.head.flatMap((run) => headChunks(run, chunkColumns));
      this.#head = {
        input: f32("head.input", rows, hidden),
        rstd: rstd("head.rstd", rows),
        normed: f32("head.normed", rows, hidden),
        logits: f32("head.logits", rows, Math.max(...chunks.map((chunk) => chunk.columns))),
        chunks,
      };
      this.head_state = f32("head.state", rows, 4);
      this.likeliest = train ? null : u32("head.likeliest", rows);
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
        ...(traits.qk_norm && {
          raw_q: f32("gradients.raw_q", tokens, queries),
          raw_k: f32("gradients.raw_k", tokens, keys),
        }),
        ...(traits.sandwich_norms && { branch: f32("gradients.branch", tokens, hidden) }),
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
    for (const { rope, rotations } of this.#ropes) {
      if (dependsOnLength(rope)) gpu.write(rotations, rotationsOfTokens(rope, batch));
    }
    let distinct = 0;
    if (this.#options.mode === "train" && this.#decoder.embedding[0]!.rows.gradient) {
      const byId = tokensById(batch.token_ids);
      gpu.write(this.#batch.ids, byId.ids);
      gpu.write(this.#batch.id_offsets, byId.id_offsets);
      gpu.write(this.#batch.id_tokens, byId.id_tokens);
      distinct = byId.ids.length;
    }
    let distinct_positions = 0;
    if (this.#options.mode === "train" && this.#decoder.positions?.gradient) {
      const byPosition = tokensById(batch.positions);
      gpu.write(this.#batch.position_ids, byPosition.ids);
      gpu.write(this.#batch.position_offsets, byPosition.id_offsets);
      gpu.write(this.#batch.position_tokens, byPosition.id_tokens);
      distinct_positions = byPosition.ids.length;
    }
    return { tokens, rows, sequences, distinct, distinct_positions };
  }

  /** Records embedding, blocks and head, up to `logprobs` and `averages`. */
  recordForward<L extends BatchLive>(program: Program<L>): void {
    const { embedding, positions, blocks, config } = this.#decoder;
    for (const { first_row, rows } of embedding) {
      const tensors = { token_ids: this.#batch.token_ids, table: rows.value, x: this.#streams[0]! };
      recordEmbedding(program, tensors, first_row, { scale: config.traits.embedding_scale });
    }
    if (positions) {
      const tensors = { indices: this.#batch.positions, table: positions.value, x: this.#streams[0]! };
      recordAddRows(program, tensors);
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
    const { blocks, embedding, positions } = this.#decoder;
    const embeddingTrained = [embedding[0]!.rows, positions].some((table) => table?.gradient);
    const lowest = embeddingTrained ? 0 : blocks.findIndex(isTrained);
    if (lowest < 0) return;
    const last = blocks.length - 1;
    for (let layer = last; layer >= lowest; layer--) {
      // the last block's activations are still there from the forward
      if (this.#options.recompute && layer < last) {
        this.#recordBlock(program, blocks[layer]!, layer);
        // a norm over the mlp's output needs that too
        if (blocks[layer]!.mlp_output_norm) this.#recordMlpOutput(program, blocks[layer]!, layer, true);
      }
      this.#recordBlockGrad(program, blocks[layer]!, layer, layer > lowest || embeddingTrained);
    }
    for (const { first_row, rows } of embedding) {
      if (!rows.gradient) continue;
      const { ids, id_offsets, id_tokens } = this.#batch;
      const tensors = { ids, id_offsets, id_tokens, d_x: gradients.stream, d_table: rows.gradient };
      recordEmbeddingGrad(program, tensors, first_row, {
        scale: this.#decoder.config.traits.embedding_scale,
      });
    }
    if (positions?.gradient) {
      const { position_ids: ids, position_offsets: id_offsets, position_tokens: id_tokens } = this.#batch;
      const tensors = { ids, id_offsets, id_tokens, d_x: gradients.stream, d_table: positions.gradient };
      recordEmbeddingGrad(program, tensors, 0, {}, (live) => live.distinct_positions);
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
    const { q, k, v, attended: o, lse, raw_q, raw_k } = act;
    this.#recordNorm(program, x, block.input_norm, act.input_rstd);
    this.#recordProjections(program, block, "qkv_proj", {
      q_proj: raw_q ? { ...raw_q.value, shape: q.shape } : q,
      k_proj: raw_k ? { ...raw_k.value, shape: k.shape } : k,
      v_proj: v,
    });
    this.#recordHeadNorm(program, block.q_norm, raw_q, q);
    this.#recordHeadNorm(program, block.k_norm, raw_k, k);
    this.#recordRotation(program, layer, q, k, 1);
    const { spans, positions } = this.#batch;
    recordAttention(this.#gpu, program, this.#attention[layer]!, { q, k, v, spans, positions, o, lse });
    if (act.middle !== x) this.#recordStreamCopy(program, x, act.middle);
    const output = linearOf(block, "o_proj");
    this.#recordBranch(program, output, o, act.middle, block.attention_output_norm, act.attention_output);
    this.#recordNorm(program, act.middle, block.mlp_norm, act.middle_rstd);
    this.#recordProjections(program, block, "gate_up_proj", gateAndUp(act));
  }

  /** The mlp's output added to the stream, or to nothing where only the activations are wanted. */
  #recordMlpOutput<L extends BatchLive>(
    program: Program<L>,
    block: Block,
    layer: number,
    keepStream = false,
  ): void {
    const { gate, up, middle, mlp_output } = this.#activations[layer]!;
    const out = this.#streams[layer + 1]!;
    this.#recordActivated(program, gate, up);
    if (!keepStream && out !== middle) this.#recordStreamCopy(program, middle, out);
    const down = linearOf(block, "down_proj");
    this.#recordBranch(
      program,
      down,
      this.#gated,
      keepStream ? null : out,
      block.mlp_output_norm,
      mlp_output,
    );
  }

  /** into += x W^T, or the norm of it. */
  #recordBranch<L extends BatchLive>(
    program: Program<L>,
    linear: Linear,
    x: Tensor,
    into: Tensor | null,
    norm: Norm | null,
    output: NormInput | undefined,
  ): void {
    if (!norm || !output) {
      if (into) this.#linear.record(program, linear, x, into, true);
      return;
    }
    this.#linear.record(program, linear, x, output.value, false);
    this.#recordNorm(program, output.value, norm, output.rstd);
    const hidden = this.#decoder.config.hidden_size;
    if (into) recordAdd(program, this.#normed, into, ({ tokens }) => tokens * hidden);
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

    this.#recordActivated(program, act.gate, act.up);
    const d_mlp = this.#recordBranchGrad(program, block.mlp_output_norm, act.mlp_output);
    this.#linear.recordGrad(program, linearOf(block, "down_proj"), this.#gated, d_mlp, g.gated, false);
    this.#recordActivatedGrad(program, g.gated, act.gate, act.up);
    this.#recordNorm(program, act.middle, block.mlp_norm, act.middle_rstd);
    this.#recordProjectionsGrad(program, block, "gate_up_proj", gateAndUp(act), g.normed);
    this.#recordNormGrad(program, act.middle, block.mlp_norm, act.middle_rstd, g.normed, g.stream);

    const d_attention = this.#recordBranchGrad(program, block.attention_output_norm, act.attention_output);
    this.#linear.recordGrad(program, linearOf(block, "o_proj"), act.attended, d_attention, g.attended, false);
    const { q, k, v, attended: o, lse } = act;
    const { spans, positions } = this.#batch;
    const d = { d_o: g.attended, delta: g.delta, d_q: g.q, d_k: g.k, d_v: g.v };
    recordAttentionGrad(this.#gpu, program, this.#attention[layer]!, {
      q,
      k,
      v,
      o,
      lse,
      spans,
      positions,
      ...d,
    });
    this.#recordRotation(program, layer, g.q, g.k, -1);

    const x = this.#streams[layer]!;
    this.#recordNorm(program, x, block.input_norm, act.input_rstd);
    const d_normed = toInput || block.input_norm.weight.gradient ? g.normed : null;
    this.#recordProjectionsGrad(program, block, "qkv_proj", {
      q_proj: this.#recordHeadNormGrad(program, block.q_norm, act.raw_q, g.q, g.raw_q),
      k_proj: this.#recordHeadNormGrad(program, block.k_norm, act.raw_k, g.k, g.raw_k),
      v_proj: g.v,
    }, d_normed);
    if (d_normed) this.#recordNormGrad(program, x, block.input_norm, act.input_rstd, d_normed, g.stream);
  }

  /** @returns the gradient of a branch's linear output, where `gradients.stream` holds that of its sum */
  #recordBranchGrad<L extends BatchLive>(
    program: Program<L>,
    norm: Norm | null,
    output: NormInput | undefined,
  ): Tensor {
    const { stream, branch } = this.#gradients!;
    if (!norm || !output || !branch) return stream;
    program.clear(branch);
    this.#recordNormGrad(program, output.value, norm, output.rstd, stream, branch);
    return branch;
  }

  /** Each output = normed W^T, by one matrix where the family has joined them. */
  #recordProjections<L extends BatchLive>(
    program: Program<L>,
    block: Block,
    fused: LinearLayer,
    outputs: Readonly<Partial<Record<LinearLayer, Tensor>>>,
  ): void {
    const joint = block.linears[fused];
    if (!joint) {
      for (const [name, y] of Object.entries(outputs)) {
        this.#linear.record(program, linearOf(block, name as LinearLayer), this.#normed, y, false);
      }
      return;
    }
    const joined = this.#joinedOf(joint);
    this.#linear.record(program, joint, this.#normed, joined, false);
    let first = 0;
    for (const y of Object.values(outputs)) {
      recordCopyColumns(program, { of: joined, first }, { of: y }, y.shape[1]!, tokensOf<L>);
      first += y.shape[1]!;
    }
  }

  #recordProjectionsGrad<L extends BatchLive>(
    program: Program<L>,
    block: Block,
    fused: LinearLayer,
    gradients: Readonly<Partial<Record<LinearLayer, Tensor>>>,
    d_x: Tensor | null,
  ): void {
    const joint = block.linears[fused];
    if (!joint) {
      for (const [i, [name, d_y]] of Object.entries(gradients).entries()) {
        this.#linear.recordGrad(program, linearOf(block, name as LinearLayer), this.#normed, d_y, d_x, i > 0);
      }
      return;
    }
    const joined = this.#joinedOf(joint);
    let first = 0;
    for (const d_y of Object.values(gradients)) {
      recordCopyColumns(program, { of: d_y }, { of: joined, first }, d_y.shape[1]!, tokensOf<L>);
      first += d_y.shape[1]!;
    }
    this.#linear.recordGrad(program, joint, this.#normed, joined, d_x, false);
  }

  #joinedOf(joint: Linear): Tensor {
    return { ...this.#joined!, shape: [this.budget.tokens, joint.weight.value.shape[0]!] };
  }

  #recordHead<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, chunks } = this.#head;
    const { head_state: state, likeliest: best } = this;
    const { config, norm } = this.#decoder;
    const { head_tokens: indices, targets } = this.#batch;
    recordGatherRows(program, { indices, x: this.#streams.at(-1)!, y: input });
    const softcap = config.traits.logit_softcap;
    const rows = rowsLive<L>;
    this.#norm.record(program, norm, { x: input, rstd, y: normed }, rows);
    for (const chunk of chunks) {
      this.#recordLogits(program, chunk);
      const tensors = { logits, targets, state, ...(best && { best }) };
      recordLogsumexp(this.#gpu, program, tensors, chunkOf(chunk), { softcap });
    }
    const { sequence_rows, logprobs, averages } = this;
    recordAverageLogprobs(program, { state, sequence_rows, logprobs, averages }, config.vocab_size);
  }

  #recordHeadGrad<L extends BatchLive>(program: Program<L>): void {
    const { input, rstd, normed, logits, chunks } = this.#head;
    const { head_state: state } = this;
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
        { softcap: config.traits.logit_softcap },
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
    const d = { d_y: g.head_normed, d_x: g.head_input };
    this.#norm.recordGrad(program, norm, { x: input, rstd, ...d }, rowsLive<L>);
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

  /** scratch.normed = norm(x) */
  #recordNorm<L extends BatchLive>(program: Program<L>, x: Tensor, norm: Norm, rstd: Tensor): void {
    this.#norm.record(program, norm, { x, rstd, y: this.#normed }, tokensOf<L>);
  }

  /** d_x += the gradient of norm(x) */
  #recordNormGrad<L extends BatchLive>(
    program: Program<L>,
    x: Tensor,
    norm: Norm,
    rstd: Tensor,
    d_y: Tensor,
    d_x: Tensor,
  ): void {
    this.#norm.recordGrad(program, norm, { x, rstd, d_y, d_x }, tokensOf<L>);
  }

  /** y = norm of each head of `raw`, where the family has one. */
  #recordHeadNorm<L extends BatchLive>(
    program: Program<L>,
    norm: Norm | null,
    raw: NormInput | undefined,
    y: Tensor,
  ): void {
    if (!norm || !raw) return;
    const heads = y.shape[1]! / this.#decoder.config.head_dim;
    const tensors = { x: raw.value, rstd: raw.rstd, y };
    this.#norm.record(program, norm, tensors, ({ tokens }) => tokens * heads);
  }

  /** @returns the gradient of the projection, where `d_y` is that of the normed heads */
  #recordHeadNormGrad<L extends BatchLive>(
    program: Program<L>,
    norm: Norm | null,
    raw: NormInput | undefined,
    d_y: Tensor,
    d_x: Tensor | undefined,
  ): Tensor {
    if (!norm || !raw || !d_x) return d_y;
    const heads = d_y.shape[1]! / this.#decoder.config.head_dim;
    program.clear(d_x);
    const tensors = { x: raw.value, rstd: raw.rstd, d_y, d_x };
    this.#norm.recordGrad(program, norm, tensors, ({ tokens }) => tokens * heads);
    return d_x;
  }

  #recordRotation<L extends BatchLive>(
    program: Program<L>,
    layer: number,
    q: Tensor,
    k: Tensor,
    direction: 1 | -1,
  ): void {
    const { head_dim, traits } = this.#decoder.config;
    const table = this.#ropes[traits.layers[layer]!.rope];
    if (!table) return; // positions are learned
    const shared = { positions: table.rows, rotations: table.rotations };
    recordRope(program, { x: q, ...shared }, head_dim, direction);
    recordRope(program, { x: k, ...shared }, head_dim, direction);
  }

  /** scratch.gated = activation(gate) * up, or activation(up) */
  #recordActivated<L extends BatchLive>(program: Program<L>, gate: Tensor | null, up: Tensor): void {
    const { intermediate_size: wide, traits } = this.#decoder.config;
    const count = ({ tokens }: L) => tokens * wide;
    const y = this.#gated;
    if (gate) recordGatedActivation(program, traits.activation, { gate, up, y }, count);
    else recordActivation(program, "gelu_tanh", { x: up, y }, count);
  }

  /** Replaces gate and up by their gradients. */
  #recordActivatedGrad<L extends BatchLive>(
    program: Program<L>,
    d_y: Tensor,
    gate: Tensor | null,
    up: Tensor,
  ): void {
    const { intermediate_size: wide, traits } = this.#decoder.config;
    const count = ({ tokens }: L) => tokens * wide;
    if (gate) recordGatedActivationGrad(program, traits.activation, { d_y, gate, up }, count);
    else recordActivationGrad(program, "gelu_tanh", { d_y, x: up }, count);
  }

  #recordStreamCopy<L extends BatchLive>(program: Program<L>, from: Tensor, to: Tensor): void {
    const hidden = this.#decoder.config.hidden_size;
    recordCopy(program, from, to, ({ tokens }) => tokens * hidden);
  }

  #own(tensor: Tensor): Tensor {
    this.#tensors.push(tensor);
    return tensor;
  }
}

function gateAndUp({ gate, up }: BlockActivations): Partial<Record<LinearLayer, Tensor>> {
  return gate ? { gate_proj: gate, up_proj: up } : { up_proj: up };
}

function linearsOf(block: Block): Linear[] {
  return Object.values(block.linears);
}

/** A projection that the family has. */
function linearOf({ linears }: Block, name: LinearLayer): Linear {
  const linear = linears[name];
  if (!linear) throw new Error(`This family's blocks have no ${name}.`);
  return linear;
}

function isTrained({ linears, ...norms }: Block): boolean {
  return Object.values(norms).some((norm) => norm?.weight.gradient) ||
    Object.values(linears).some(({ weight, lora }) => weight.gradient || lora?.a.gradient);
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

/** (cos, sin) of each token of a batch by its position and its sequence's length: [tokens, rotary_dim / 2, 2] */
function rotationsOfTokens(rope: RopeSettings, { tokens, positions, spans }: PackedBatch): Float32Array {
  const tables = new Map<number, Float32Array>();
  const width = rope.rotary_dim;
  const rotations = new Float32Array(tokens * width);
  for (let token = 0; token < tokens; token++) {
    // the last token that attends to this one ends its sequence
    const length = positions[spans[4 * token + 3]! - 1]! + 1;
    let table = tables.get(length);
    if (!table) {
      table = ropeRotations(ropeFrequencies(rope, length), length, ropeAttentionFactor(rope));
      tables.set(length, table);
    }
    rotations.set(table.subarray(positions[token]! * width, (positions[token]! + 1) * width), token * width);
  }
  return rotations;
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
