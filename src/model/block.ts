import { type Gpu, type Program, type Tensor } from "../gpu/mod.ts";
import {
  type AttentionShape,
  type PlacedKeys,
  recordAttention,
  recordAttentionGrad,
} from "../gpu/ops/attention.ts";
import { recordCopyColumns } from "../gpu/ops/columns.ts";
import {
  recordAdd,
  recordCopy,
  recordGatedActivation,
  recordGatedActivationGrad,
  recordGelu,
  recordGeluGrad,
} from "../gpu/ops/elementwise.ts";
import { recordGatherKnownRows, recordScatterRows } from "../gpu/ops/known_rows.ts";
import { recordRope } from "../gpu/ops/rope.ts";
import type { BatchLive } from "./batch.ts";
import type { Block, Decoder, Linear, Norm } from "./decoder.ts";
import type { LinearLayer } from "./families/family.ts";
import { LinearRecorder } from "./linear.ts";
import type { NormRecorder } from "./norm.ts";
import type { BlockActivations, KeyValues, NormInput, PassBuffers } from "./pass_buffers.ts";

/** The equations of a decoder's blocks, forward and backward. */
export class BlockRecorder {
  readonly #gpu: Gpu;
  readonly #decoder: Decoder;
  readonly #buffers: PassBuffers;
  readonly #norm: NormRecorder;
  readonly #linear: LinearRecorder;
  /** One a block. */
  readonly #attention: readonly AttentionShape[];

  constructor(gpu: Gpu, decoder: Decoder, buffers: PassBuffers, norm: NormRecorder) {
    this.#gpu = gpu;
    this.#decoder = decoder;
    this.#buffers = buffers;
    this.#norm = norm;
    this.#linear = new LinearRecorder(gpu, buffers.linear);
    const { num_attention_heads, num_key_value_heads, head_dim, traits } = decoder.config;
    this.#attention = traits.layers.map(({ window }) => ({
      heads: num_attention_heads,
      kv_heads: num_key_value_heads,
      head_dim,
      scale: traits.query_scale,
      window,
      softcap: traits.attention_softcap,
    }));
  }

  /**
   * A block up to its gate and up projections.
   *
   * @param stored keys and values of earlier batches, where a batch may know some of its own
   */
  record<L extends BatchLive>(program: Program<L>, layer: number, stored?: KeyValues): void {
    const block = this.#decoder.blocks[layer]!;
    const x = this.#buffers.streams[layer]!;
    const act = this.#buffers.activations[layer]!;
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
    const { spans, positions } = this.#buffers.batch;
    const keys = stored ? this.#recordKnown(program, { k, v }, stored) : { k, v };
    recordAttention(this.#gpu, program, this.#attention[layer]!, { q, ...keys, spans, positions, o, lse });
    const branch = { linear: linearOf(block, "o_proj"), norm: block.attention_output_norm };
    this.#recordBranch(program, branch, o, act.attention_output, { residual: x, y: act.middle });
    this.#recordNorm(program, act.middle, block.mlp_norm, act.middle_rstd);
    if (isGatedInPlace(act)) this.#recordGated(program, block, act.up);
    else this.#recordProjections(program, block, "gate_up_proj", gateAndUp(act));
  }

  /** y = activation(gate projection) * up projection */
  #recordGated<L extends BatchLive>(program: Program<L>, block: Block, y: Tensor): void {
    const { normed } = this.#buffers;
    const { activation } = this.#decoder.config.traits;
    this.#linear.record(program, linearOf(block, "gate_proj"), normed, y);
    this.#linear.record(program, linearOf(block, "up_proj"), normed, y, { gate: activation });
  }

  /** The mlp's output added to the stream, or to nothing where only the activations are wanted. */
  recordMlpOutput<L extends BatchLive>(
    program: Program<L>,
    layer: number,
    keepStream = false,
  ): void {
    const block = this.#decoder.blocks[layer]!;
    const act = this.#buffers.activations[layer]!;
    const { middle, mlp_output } = act;
    const activated = this.#recordActivated(program, act);
    const branch = { linear: linearOf(block, "down_proj"), norm: block.mlp_output_norm };
    const stream = keepStream ? null : { residual: middle, y: this.#buffers.streams[layer + 1]! };
    this.#recordBranch(program, branch, activated, mlp_output, stream);
  }

  /** Puts known keys and values beside the batch's own, of which it stores those that are to be kept. */
  #recordKnown<L extends BatchLive>(
    program: Program<L>,
    own: KeyValues,
    stored: KeyValues,
  ): KeyValues & PlacedKeys {
    const { k, v, places, sources, moves } = this.#buffers.known!;
    for (const [x, known, y] of [[own.k, stored.k, k], [own.v, stored.v, v]] as const) {
      recordGatherKnownRows(program, { sources, x, known, y }, ({ keys }) => keys);
      recordScatterRows(program, { moves, x, y: known }, ({ kept }) => kept);
    }
    return { k, v, places };
  }

  /** y = residual + x W^T, or + the norm of it; without a stream what the norm's backward needs alone. */
  #recordBranch<L extends BatchLive>(
    program: Program<L>,
    { linear, norm }: { readonly linear: Linear; readonly norm: Norm | null },
    x: Tensor,
    output: NormInput | undefined,
    stream: { readonly residual: Tensor; readonly y: Tensor } | null,
  ): void {
    if (!norm || !output) {
      if (stream) this.#linear.record(program, linear, x, stream.y, stream);
      return;
    }
    this.#linear.record(program, linear, x, output.value);
    this.#recordNorm(program, output.value, norm, output.rstd);
    if (!stream) return;
    const { residual, y } = stream;
    const hidden = this.#decoder.config.hidden_size;
    const count = ({ tokens }: L) => tokens * hidden;
    if (y !== residual) recordCopy(program, residual, y, count);
    recordAdd(program, this.#buffers.normed, y, count);
  }

  /** Turns `gradients.stream` from the gradient of the block's output into that of its input. */
  recordGrad<L extends BatchLive>(
    program: Program<L>,
    layer: number,
    toInput: boolean,
  ): void {
    const block = this.#decoder.blocks[layer]!;
    const act = this.#buffers.activations[layer]!;
    const g = this.#buffers.gradients!;

    const d_mlp = this.#recordBranchGrad(program, block.mlp_output_norm, act.mlp_output);
    const down = linearOf(block, "down_proj");
    this.#linear.recordInputGrad(program, down, d_mlp, g.gated, false);
    const activated = this.#recordActivatedGrad(program, g.gated, act);
    this.#linear.recordWeightGrad(program, down, activated, d_mlp);
    this.#recordNorm(program, act.middle, block.mlp_norm, act.middle_rstd);
    this.#recordProjectionsGrad(program, block, "gate_up_proj", gateAndUp(act), g.normed);
    this.#recordNormGrad(program, act.middle, block.mlp_norm, act.middle_rstd, g.normed, g.stream);

    const d_attention = this.#recordBranchGrad(program, block.attention_output_norm, act.attention_output);
    this.#linear.recordGrad(program, linearOf(block, "o_proj"), act.attended, d_attention, g.attended, false);
    const { q, k, v, attended: o, lse } = act;
    const { spans, positions } = this.#buffers.batch;
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

    const x = this.#buffers.streams[layer]!;
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
    const { stream, branch } = this.#buffers.gradients!;
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
        this.#linear.record(program, linearOf(block, name as LinearLayer), this.#buffers.normed, y);
      }
      return;
    }
    const joined = this.#joinedOf(joint);
    this.#linear.record(program, joint, this.#buffers.normed, joined);
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
        this.#linear.recordGrad(
          program,
          linearOf(block, name as LinearLayer),
          this.#buffers.normed,
          d_y,
          d_x,
          i > 0,
        );
      }
      return;
    }
    const joined = this.#joinedOf(joint);
    let first = 0;
    for (const d_y of Object.values(gradients)) {
      recordCopyColumns(program, { of: d_y }, { of: joined, first }, d_y.shape[1]!, tokensOf<L>);
      first += d_y.shape[1]!;
    }
    this.#linear.recordGrad(program, joint, this.#buffers.normed, joined, d_x, false);
  }

  #joinedOf(joint: Linear): Tensor {
    const joined = this.#buffers.joined!;
    return { ...joined, shape: [joined.shape[0]!, joint.weight.value.shape[0]!] };
  }

  /** scratch.normed = norm(x) */
  #recordNorm<L extends BatchLive>(program: Program<L>, x: Tensor, norm: Norm, rstd: Tensor): void {
    this.#norm.record(program, norm, { x, rstd, y: this.#buffers.normed }, tokensOf<L>);
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
    const table = this.#buffers.ropes[traits.layers[layer]!.rope];
    if (!table) return; // positions are learned
    const shared = { positions: table.rows, rotations: table.rotations };
    recordRope(program, { x: q, ...shared }, head_dim, direction);
    recordRope(program, { x: k, ...shared }, head_dim, direction);
  }

  /** @returns activation(gate) * up, or activation(up) */
  #recordActivated<L extends BatchLive>(program: Program<L>, act: BlockActivations): Tensor {
    if (isGatedInPlace(act)) return act.up;
    const { intermediate_size: wide, traits } = this.#decoder.config;
    const count = ({ tokens }: L) => tokens * wide;
    const { gate, up } = act;
    const y = this.#buffers.gated;
    if (gate) recordGatedActivation(program, traits.activation, { gate, up, y }, count);
    else recordGelu(program, { x: up, y }, count);
    return y;
  }

  /** Replaces gate and up by their gradients. @returns what {@link #recordActivated} does, made again */
  #recordActivatedGrad<L extends BatchLive>(
    program: Program<L>,
    d_y: Tensor,
    { gate, up }: BlockActivations,
  ): Tensor {
    const { intermediate_size: wide, traits } = this.#decoder.config;
    const count = ({ tokens }: L) => tokens * wide;
    const y = this.#buffers.gated;
    if (gate) recordGatedActivationGrad(program, traits.activation, { d_y, gate, up, y }, count);
    else recordGeluGrad(program, { d_y, x: up, y }, count);
    return y;
  }
}

/** Whether the up projection multiplies the activated gates in their place. */
function isGatedInPlace({ gate, up }: BlockActivations): boolean {
  return gate === up;
}

function gateAndUp({ gate, up }: BlockActivations): Partial<Record<LinearLayer, Tensor>> {
  return gate ? { gate_proj: gate, up_proj: up } : { up_proj: up };
}

/** A projection that the family has. */
function linearOf({ linears }: Block, name: LinearLayer): Linear {
  const linear = linears[name];
  if (!linear) throw new Error(`This family's blocks have no ${name}.`);
  return linear;
}

function tokensOf<L extends BatchLive>(live: L): number {
  return live.tokens;
}
