/**
 * The buffers of one decoder at one budget: declared here alone, so that what is allocated and what is planned for are
 * the same.
 *
 * @module
 */
import { dtypeBytes, rowsOf, type Tensor, type TensorSource } from "../gpu/mod.ts";
import type { Budget } from "./batch.ts";
import type { ModelConfig } from "./config.ts";
import type { Block, Decoder, Linear, TableRun } from "./decoder.ts";
import { type LinearScratch, linearScratch } from "./linear.ts";
import { rstdShape } from "./norm.ts";
import { dependsOnLength, type RopeSettings } from "./rope.ts";

/** What a pass is for, and what it keeps. */
export interface PassOptions {
  /**
   * `score`: forward only, one set of activations for all blocks. `train`: also what the backward needs, from the lowest
   * trained block on.
   */
  readonly mode: "score" | "train";
  /** In training, keep only each block's input and compute the rest again in the backward. */
  readonly recompute?: boolean;
  /** When scoring, keys that a batch's tokens attend to at most, where some are known; see {@link KnownBuffers}. */
  readonly keys?: number;
  /** Bytes of logits that exist at one time, whatever the vocabulary; 16 MiB unless given. */
  readonly logits_bytes?: number;
}

/** A batch as it was uploaded; see PackedBatch. */
export type BatchBuffers = Readonly<
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
    | "position_tokens"
    | "sequence_rows",
    Tensor
  >
>;

/** Keys and values of one block, [rows, kv_heads * head_dim], keys rotated. */
export interface KeyValues {
  readonly k: Tensor;
  readonly v: Tensor;
}

/** A batch of prompts whose first keys and values are known: kept from earlier batches, or of other tokens in this one. */
export interface KnownBuffers extends KeyValues {
  /** [tokens]; see PackedBatch. `k` and `v` have a row a place. */
  readonly places: Tensor;
  /** [keys]: where the row of each place comes from, as recordGatherKnownRows() has it. */
  readonly sources: Tensor;
  /** [tokens, 2]: tokens whose keys and values are kept, and the rows that keep them. */
  readonly moves: Tensor;
}

/** What a block's backward needs of its forward. */
export interface BlockActivations {
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
  /** [tokens, intermediate]; the tensor of the gates where they become the mlp's product in place. */
  readonly up: Tensor;
  /** Queries and keys before their norms, a row a head; where the family norms them. */
  readonly raw_q?: NormInput;
  readonly raw_k?: NormInput;
  /** What attention and mlp give before their norms; where the family norms them. */
  readonly attention_output?: NormInput;
  readonly mlp_output?: NormInput;
}

/** The angles of one set of rotary settings. */
export interface RopeTable {
  readonly rope: RopeSettings;
  /** [rows, rotary_dim / 2, 2] (cos, sin) */
  readonly rotations: Tensor;
  /** [tokens]: each token's row */
  readonly rows: Tensor;
}

/** What a norm's backward needs. */
export interface NormInput {
  /** [rows, columns] */
  readonly value: Tensor;
  /** [rows], as NormRecorder has it */
  readonly rstd: Tensor;
}

/** One chunk of the vocabulary: neighbouring rows of one table run. */
export interface HeadChunk {
  readonly first_id: number;
  readonly columns: number;
  /** [columns, hidden] */
  readonly weight: Tensor;
  readonly gradient: Tensor | null;
}

/** All buffers of a pass. */
export interface PassBuffers {
  readonly batch: BatchBuffers;
  /** null where no keys are known. */
  readonly known: KnownBuffers | null;
  readonly ropes: readonly RopeTable[];
  /** The stream before each block and after the last; one tensor up to where something is kept. */
  readonly streams: readonly Tensor[];
  /** One a block; blocks of which nothing is kept share one. */
  readonly activations: readonly BlockActivations[];
  /** [tokens, hidden] */
  readonly normed: Tensor;
  /** [tokens, intermediate] */
  readonly gated: Tensor;
  /** Outputs of fused projections, before they are taken apart. */
  readonly joined: Tensor | null;
  readonly linear: LinearScratch;
  readonly head: HeadBuffers;
  /** null where nothing is trained. */
  readonly gradients: GradientBuffers | null;
}

/** Buffers of the scored tokens. */
export interface HeadBuffers {
  /** [rows, hidden]: the stream where it predicts a scored token. */
  readonly input: Tensor;
  readonly rstd: Tensor;
  /** [rows, hidden] */
  readonly normed: Tensor;
  /** [rows, columns of the widest chunk] */
  readonly logits: Tensor;
  readonly chunks: readonly HeadChunk[];
  /** [rows, 4]: each row's largest logit, the sum of exp(logit - largest), the target's logit, the sum of logits. */
  readonly state: Tensor;
  /** [rows]: id of the likeliest token; null in training. */
  readonly likeliest: Tensor | null;
  /** [rows]: log-prob of every scored token. */
  readonly logprobs: Tensor;
  /** [sequences, 2]: mean log-prob of a response, and its mean logit. */
  readonly averages: Tensor;
  /** [sequences]: the loss's gradient with respect to each token's log-prob; an objective writes it. */
  readonly coefficients: Tensor;
}

/** Gradients of activations, of the shape of what they are the gradient of. */
export interface GradientBuffers {
  readonly stream: Tensor;
  readonly normed: Tensor;
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly attended: Tensor;
  /** [tokens, heads] */
  readonly delta: Tensor;
  readonly gated: Tensor;
  /** Of queries and keys before their norms. */
  readonly raw_q?: Tensor;
  readonly raw_k?: Tensor;
  /** Of a branch's output before its norm. */
  readonly branch?: Tensor;
  readonly head_normed: Tensor;
  readonly head_input: Tensor;
}

const LOGITS_BYTES = 16 * 2 ** 20;
const CHUNK_ALIGNMENT = 64;
/** logsumexp.wgsl takes at most twice as many within the software driver's loop budget. */
const MAX_CHUNK_COLUMNS = 65_536;

/**
 * Makes the buffers of a pass.
 *
 * @throws {GpuMemoryError} where they do not fit; what was made until then is left to the caller
 * @throws {RangeError} where the budget passes {@link mostTokens}
 */
export function passBuffers(
  source: TensorSource,
  decoder: Decoder,
  budget: Budget,
  options: PassOptions,
): PassBuffers {
  const { config, blocks } = decoder;
  const { traits, hidden_size: hidden, intermediate_size: wide, head_dim } = config;
  const { tokens, rows, sequences } = budget;
  const queries = config.num_attention_heads * head_dim;
  const keys = config.num_key_value_heads * head_dim;
  const f32 = (name: string, ...shape: number[]) => source.tensor(`${options.mode}.${name}`, shape);
  const u32 = (name: string, ...shape: number[]) => source.tensor(`${options.mode}.${name}`, shape, "u32");
  const rstd = (name: string, rows: number) => f32(name, ...rstdShape(config, rows));
  const normed = (name: string, rows: number, columns: number): NormInput => ({
    value: f32(name, rows, columns),
    rstd: rstd(`${name}_rstd`, rows),
  });

  const batch: BatchBuffers = {
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
    sequence_rows: u32("batch.sequence_rows", sequences + 1),
  };
  const ropes = traits.ropes.map((rope): RopeTable => ({
    rope,
    rotations: f32("rotations", Math.max(tokens, options.keys ?? 0), rope.rotary_dim / 2, 2),
    // angles that depend on the sequence's length are computed for every batch, a row a token
    rows: dependsOnLength(rope) ? u32("token_indices", tokens) : batch.positions,
  }));

  const train = options.mode === "train";
  const lowest = train ? lowestTrained(decoder) : blocks.length;
  const sets = options.recompute ? 1 : Math.max(1, blocks.length - lowest);
  const stream = f32("stream", tokens, hidden);
  const mlpActivations = () => {
    const gate = traits.gated_mlp ? f32("activations.gate", tokens, wide) : null;
    // where no backward wants both, gates become the mlp's product in their place
    const inPlace = gate && !train && !traits.fused_projections;
    return { gate, up: inPlace ? gate : f32("activations.up", tokens, wide) };
  };
  const activations = Array.from({ length: sets }, (): BlockActivations => ({
    input_rstd: rstd("activations.rstd", tokens),
    q: f32("activations.q", tokens, queries),
    k: f32("activations.k", tokens, keys),
    v: f32("activations.v", tokens, keys),
    attended: f32("activations.attended", tokens, queries),
    lse: f32("activations.lse", tokens, config.num_attention_heads),
    middle: train ? f32("activations.middle", tokens, hidden) : stream,
    middle_rstd: rstd("activations.rstd", tokens),
    ...mlpActivations(),
    ...(traits.qk_norm && {
      raw_q: normed("activations.raw_q", tokens * config.num_attention_heads, head_dim),
      raw_k: normed("activations.raw_k", tokens * config.num_key_value_heads, head_dim),
    }),
    ...(traits.sandwich_norms && {
      attention_output: normed("activations.attention_output", tokens, hidden),
      mlp_output: normed("activations.mlp_output", tokens, hidden),
    }),
  }));

  // what runs before the lowest trained block may use its activations, but for the stream, which goes on
  const passing = { ...activations[0]!, middle: stream };

  const logitsBytes = Math.min(options.logits_bytes ?? LOGITS_BYTES, source.maxTensorBytes);
  const columns = Math.min(MAX_CHUNK_COLUMNS, logitsBytes / 4 / rows);
  const chunkColumns = Math.max(1, Math.floor(columns / CHUNK_ALIGNMENT)) * CHUNK_ALIGNMENT;
  const chunks = decoder.head.flatMap((run) => headChunks(run, chunkColumns));
  return {
    batch,
    known: options.keys === undefined ? null : {
      k: f32("known.k", options.keys, keys),
      v: f32("known.v", options.keys, keys),
      places: u32("known.places", tokens),
      sources: u32("known.sources", options.keys),
      moves: u32("known.moves", tokens, 2),
    },
    ropes,
    streams: [
      stream,
      ...blocks.map((_, layer) => layer < lowest ? stream : f32(`stream.${layer}`, tokens, hidden)),
    ],
    activations: blocks.map((_, layer) => layer < lowest ? passing : activations[(layer - lowest) % sets]!),
    normed: f32("scratch.normed", tokens, hidden),
    gated: passing.gate === passing.up ? passing.up : f32("scratch.gated", tokens, wide),
    joined: traits.fused_projections ? f32("scratch.joined", tokens, joinedWidth(config)) : null,
    linear: linearScratch(
      linearsOf(blocks),
      options.recompute ? [] : linearsOf(blocks.slice(lowest)),
      tokens,
      train,
      f32,
    ),
    head: {
      input: f32("head.input", rows, hidden),
      rstd: rstd("head.rstd", rows),
      normed: f32("head.normed", rows, hidden),
      logits: f32("head.logits", rows, Math.max(...chunks.map((chunk) => chunk.columns))),
      chunks,
      state: f32("head.state", rows, 4),
      likeliest: train ? null : u32("head.likeliest", rows),
      logprobs: f32("head.logprobs", rows),
      averages: f32("head.averages", sequences, 2),
      coefficients: f32("head.coefficients", sequences),
    },
    gradients: !train ? null : {
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
    },
  };
}

/** The first block that a backward pass reaches; the number of blocks where it reaches none. */
export function lowestTrained({ embedding, positions, blocks }: Decoder): number {
  if ([embedding[0]!.rows, positions].some((table) => table?.gradient)) return 0;
  const first = blocks.findIndex(isTrained);
  return first < 0 ? blocks.length : first;
}

function linearsOf(blocks: readonly Block[]): Linear[] {
  return blocks.flatMap(({ linears }) => Object.values(linears));
}

function isTrained({ linears, ...norms }: Block): boolean {
  return Object.values(norms).some((norm) => norm?.weight.gradient) ||
    Object.values(linears).some(({ weight, lora }) => weight.gradient || lora?.a.gradient);
}

/**
 * The most tokens that one batch of a model may have on this device, whose bindings limit a tensor's size.
 *
 * @param rank LoRA's r
 */
export function mostTokens(
  { maxTensorBytes }: Pick<TensorSource, "maxTensorBytes">,
  config: ModelConfig,
  rank = 0,
): number {
  const { hidden_size, intermediate_size, num_attention_heads, head_dim } = config;
  const widest = Math.max(
    hidden_size,
    intermediate_size,
    num_attention_heads * head_dim,
    joinedWidth(config),
    rank,
    CHUNK_ALIGNMENT, // columns of logits at least
  );
  return Math.floor(maxTensorBytes / (widest * dtypeBytes("f32")));
}

/** Columns of the widest fused projection; 0 where there is none. */
function joinedWidth(config: ModelConfig): number {
  const { num_attention_heads, num_key_value_heads, head_dim, intermediate_size, traits } = config;
  if (!traits.fused_projections) return 0;
  const qkv = (num_attention_heads + 2 * num_key_value_heads) * head_dim;
  return traits.gated_mlp ? Math.max(qkv, 2 * intermediate_size) : qkv;
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
