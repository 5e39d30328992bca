/**
 * The layers of one decoder at one budget with their buffers, made here alone, so that what is allocated and what is
 * planned for are the same.
 *
 * @module
 */
import { dtypeBytes, type Tensor, type TensorSource } from "../gpu/mod.ts";
import type { Budget } from "./batch.ts";
import { type BatchBuffers, batchBuffers } from "./batch_buffers.ts";
import type { ModelConfig } from "./config.ts";
import type { Block, Decoder } from "./decoder.ts";
import { BlockLayer } from "./layers/block.ts";
import { Buffers } from "./layers/buffers.ts";
import { Embedding } from "./layers/embedding.ts";
import { CHUNK_ALIGNMENT, Head } from "./layers/head.ts";
import { linearScratch } from "./layers/linear.ts";
import { Rotary } from "./layers/rotary.ts";
import { joinedWidth } from "./modules.ts";

/** What a pass is for, and what it keeps. */
export interface PassOptions {
  /**
   * `score`: forward only, one set of activations for all blocks. `train`: also what the backward needs, from the lowest
   * trained block on.
   */
  readonly mode: "score" | "train";
  /** In training, keep only each block's input and compute the rest again in the backward. */
  readonly recompute?: boolean;
  /** When scoring, keys that a batch's tokens attend to at most, where some are known; see KnownBuffers. */
  readonly keys?: number;
  /** What has a coefficient of its own in the backward: every response unless given, or every scored row. */
  readonly coefficients?: "sequence" | "row";
  /** Whether the head also has log sum_v p_v^2 of every scored row. */
  readonly collisions?: boolean;
  /** Bytes of logits that exist at one time, whatever the vocabulary; 16 MiB unless given. */
  readonly logits_bytes?: number;
}

/** A decoder's layers from the embedding up, with what goes through them. */
export interface PassLayers {
  readonly batch: BatchBuffers;
  readonly rotaries: readonly Rotary[];
  readonly embedding: Embedding;
  readonly blocks: readonly BlockLayer[];
  readonly head: Head;
  /** The first block that the backward reaches; the number of blocks where it reaches none. */
  readonly lowest: number;
  /** The stream, [tokens, hidden], before the first block and after the last. */
  readonly x: Tensor;
  readonly y: Tensor;
  /** Its gradient; null where nothing is trained. */
  readonly d_stream: Tensor | null;
}

/**
 * Makes the layers of a pass.
 *
 * @throws {GpuMemoryError} where their buffers do not fit; what was made until then is left to the caller
 * @throws {RangeError} where the budget passes {@link mostTokens}
 */
export function passLayers(
  source: TensorSource,
  decoder: Decoder,
  budget: Budget,
  { mode, recompute = false, keys, ...options }: PassOptions,
): PassLayers {
  const { config, blocks } = decoder;
  const { plan, hidden_size } = config;
  const { tokens } = budget;
  const train = mode === "train";
  const [inputs, stream, scratch, atHead] = ["other", "activations", "scratch", "head"].map((part) =>
    new Buffers(source, mode, part)
  ) as [Buffers, Buffers, Buffers, Buffers];
  const use = {
    embedding: train && decoder.embedding[0]!.rows.gradient !== null,
    positions: train && !!decoder.positions?.gradient,
    coefficients: options.coefficients ?? "sequence",
  };
  const batch = batchBuffers(inputs, budget, use, keys);
  const context = { config, budget, train, batch, scratch };
  const rotaries = plan.ropes.map((rope, i) => new Rotary({ ...context, scratch: inputs }, rope, i));
  const linears = blocks.flatMap(({ linears }) => Object.values(linears));
  const linear = linearScratch(linears, scratch, tokens, train);

  const lowest = use.embedding || use.positions ? 0 : train ? lowestTrained(blocks) : blocks.length;
  const sets = Array.from(
    { length: recompute ? 1 : Math.max(1, blocks.length - lowest) },
    () => new Buffers(source, `${mode}.activations`, "activations"),
  );
  // one tensor up to where something is kept
  const x = stream.f32("stream", tokens, hidden_size);
  const outputs = blocks.map((_, layer) =>
    layer < lowest ? x : stream.f32(`stream.${layer}`, tokens, hidden_size)
  );
  const layers = blocks.map((block, layer) => {
    const passes = layer < lowest;
    // what runs before the lowest trained block may use its activations, but for the stream, which goes on
    const kept = passes ? sets[0]! : sets[(layer - lowest) % sets.length]!;
    const middle = train ? kept.f32("middle", tokens, hidden_size) : x;
    const { window, rope } = plan.layers[layer]!;
    const rotary = rope === null ? null : rotaries[rope]!;
    const own = { ...context, kept, lasting: !passes && !recompute, linear, window, rotary };
    return new BlockLayer(own, block, {
      x: outputs[layer - 1] ?? x,
      middle: passes ? x : middle,
      y: outputs[layer]!,
    });
  });
  return {
    batch,
    rotaries,
    embedding: new Embedding(context, decoder),
    blocks: layers,
    head: new Head({ ...context, scratch: atHead }, decoder, options),
    lowest,
    x,
    y: outputs.at(-1) ?? x,
    d_stream: train ? scratch.f32("gradients.stream", tokens, hidden_size) : null,
  };
}

/** The first block that is trained; the number of blocks where none is. */
function lowestTrained(blocks: readonly Block[]): number {
  const first = blocks.findIndex(isTrained);
  return first < 0 ? blocks.length : first;
}

function isTrained({ linears, norms }: Block): boolean {
  return Object.values(norms).some((norm) => norm.weight.gradient) ||
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
