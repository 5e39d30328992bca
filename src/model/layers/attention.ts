import type { Tensor, Tensors } from "../../gpu/mod.ts";
import {
  type AttentionShape,
  type PlacedKeys,
  recordAttention,
  recordAttentionGrad,
} from "../../gpu/ops/attention.ts";
import { recordGatherKnownRows, recordScatterRows } from "../../gpu/ops/known_rows.ts";
import type { KnownBuffers } from "../batch_buffers.ts";
import type { Block } from "../decoder.ts";
import { BranchInput, BranchOutput } from "./branch.ts";
import type { BlockContext } from "./context.ts";
import { type Norm, NormLayer } from "./norm.ts";
import type { Recording } from "./recording.ts";

/** Keys and values of one block, [rows, kv_heads * head_dim], keys rotated. */
export type KeyValues = Tensors<"k" | "v">;

/** y = x + norm(softmax(q k^T) v W_o^T), where q, k, v = norm(x) W^T and q and k are normed and rotated. */
export class Attention {
  readonly #input: BranchInput;
  readonly #q_norm: HeadNorm | null;
  readonly #k_norm: HeadNorm | null;
  readonly #output: BranchOutput;
  readonly #shape: AttentionShape;
  /** q, o [tokens, heads * head_dim], k, v [tokens, kv_heads * head_dim], lse [tokens, heads] */
  readonly #tensors: Tensors<"q" | "k" | "v" | "o" | "lse">;
  /** Of their shapes, delta of that of lse; null where nothing is trained. */
  readonly #gradients: Tensors<"d_q" | "d_k" | "d_v" | "d_o" | "delta"> | null;
  /** Keys and values that the tokens attend to, where some are known. */
  readonly #known: KeyValues & KnownBuffers | null;

  constructor(private readonly context: BlockContext, weights: Block) {
    const { config, budget: { tokens }, batch, kept, scratch, train } = context;
    const { num_attention_heads: heads, num_key_value_heads: kv_heads, head_dim, plan } = config;
    const { q_norm, k_norm } = weights.norms;
    const [queries, keys] = [heads * head_dim, kv_heads * head_dim];
    const projections = ["q_proj", "k_proj", "v_proj"] as const;
    this.#input = new BranchInput(context, weights, "input_norm", projections, "qkv_proj");
    this.#q_norm = q_norm ? new HeadNorm(context, q_norm, "raw_q", heads) : null;
    this.#k_norm = k_norm ? new HeadNorm(context, k_norm, "raw_k", kv_heads) : null;
    this.#output = new BranchOutput(context, weights, "o_proj", "attention_output_norm");
    const { query_scale: scale, attention_softcap: softcap } = plan.block;
    this.#shape = { heads, kv_heads, head_dim, scale, window: context.window, softcap };
    this.#tensors = {
      q: kept.f32("q", tokens, queries),
      k: kept.f32("k", tokens, keys),
      v: kept.f32("v", tokens, keys),
      o: kept.f32("attended", tokens, queries),
      lse: kept.f32("lse", tokens, heads),
    };
    this.#gradients = !train ? null : {
      d_q: scratch.f32("gradients.q", tokens, queries),
      d_k: scratch.f32("gradients.k", tokens, keys),
      d_v: scratch.f32("gradients.v", tokens, keys),
      d_o: scratch.f32("gradients.attended", tokens, queries),
      delta: scratch.f32("gradients.delta", tokens, heads),
    };
    this.#known = batch.known && {
      ...batch.known,
      k: scratch.f32("known.k", batch.known.sources.shape[0]!, keys),
      v: scratch.f32("known.v", batch.known.sources.shape[0]!, keys),
    };
  }

  /** @param stored keys and values of earlier batches, where a batch may know some of its own */
  forward(recording: Recording, x: Tensor, y: Tensor, stored?: KeyValues): void {
    const { q, k, v, o, lse } = this.#tensors;
    const { rotary, batch: { spans, positions } } = this.context;
    const [raw_q, raw_k] = [this.#q_norm?.raw ?? q, this.#k_norm?.raw ?? k];
    this.#input.forward(recording, x, [{ y: raw_q }, { y: raw_k }, { y: v }]);
    this.#q_norm?.forward(recording, q);
    this.#k_norm?.forward(recording, k);
    rotary?.forward(recording, q);
    rotary?.forward(recording, k);
    const keys = stored ? this.#recordKnown(recording, { k, v }, stored) : { k, v };
    recordAttention(recording.program, { q, ...keys, spans, positions, o, lse }, this.#shape);
    this.#output.forward(recording, o, x, y);
  }

  /** Turns `d_stream` from the gradient of y into that of x. @param wanted as BranchInput has it */
  backward(recording: Recording, x: Tensor, d_stream: Tensor, wanted: boolean): void {
    const { rotary, batch: { spans, positions } } = this.context;
    const gradients = this.#gradients!;
    const { d_q, d_k, d_v, d_o } = gradients;
    const d_output = this.#output.backwardInput(recording, d_stream, d_o);
    this.#output.backwardWeight(recording, this.#tensors.o, d_output);
    const tensors = { ...this.#tensors, spans, positions, ...gradients };
    recordAttentionGrad(recording.program, tensors, this.#shape);
    rotary?.backward(recording, d_q);
    rotary?.backward(recording, d_k);
    const d_raw_q = this.#q_norm?.backward(recording, d_q) ?? d_q;
    const d_raw_k = this.#k_norm?.backward(recording, d_k) ?? d_k;
    this.#input.backward(recording, x, [d_raw_q, d_raw_k, d_v], d_stream, wanted);
  }

  /** Puts known keys and values beside the batch's own, of which it stores those that are to be kept. */
  #recordKnown({ program }: Recording, own: KeyValues, stored: KeyValues): KeyValues & PlacedKeys {
    const { k, v, places, sources, moves } = this.#known!;
    for (const [x, known, y] of [[own.k, stored.k, k], [own.v, stored.v, v]] as const) {
      recordGatherKnownRows(program, { sources, x, known, y }, { rows: ({ keys }) => keys });
      recordScatterRows(program, { moves, x, y: known }, { rows: ({ kept }) => kept });
    }
    return { k, v, places };
  }
}

/** The norm of queries, or of keys: of each head, or over all of them. */
class HeadNorm {
  /** [tokens, heads * head_dim]: what is normed. */
  readonly raw: Tensor;
  readonly #norm: NormLayer;
  readonly #d_raw: Tensor | null;

  constructor(context: BlockContext, norm: Norm, name: string, heads: number) {
    const { config, budget: { tokens }, kept, scratch, train } = context;
    const columns = heads * config.head_dim;
    const rows = config.plan.block.head_norms === "head" ? heads : 1;
    this.raw = kept.f32(name, tokens, columns);
    this.#d_raw = train ? scratch.f32(`gradients.${name}`, tokens, columns) : null;
    this.#norm = NormLayer.of(context, norm, name, rows)!;
  }

  forward(recording: Recording, y: Tensor): void {
    this.#norm.forward(recording, this.raw, y);
  }

  /** @returns the gradient of {@link raw} */
  backward(recording: Recording, d_y: Tensor): Tensor {
    const d_raw = this.#d_raw!;
    recording.program.clear(d_raw);
    this.#norm.backward(recording, this.raw, d_y, d_raw);
    return d_raw;
  }
}
