import { attention, attentionGrad, type AttentionShape } from "./attention.ts";
import { averageLogprobs, averageLogprobsGrad, head, headGrad, type HeadResult } from "./head.ts";
import {
  ACTIVATIONS,
  embedding,
  embeddingGrad,
  gatedActivation,
  gatedActivationGrad,
  rmsNorm,
  rmsNormGrad,
  rope,
  ropeInverse,
  ropeTables,
} from "./layers.ts";
import { add, loraLinear, loraLinearGrad, matmul, type Numbers } from "./linear.ts";

/** Sizes of a Llama decoder, by the names of Hugging Face's config.json. */
export interface DecoderConfig {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly head_dim: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
}

/** The packed stream that goes through the decoder; a `PackedBatch` of the worker fits. */
export interface DecoderBatch {
  /** [tokens] */
  readonly token_ids: Numbers;
  /** [tokens] */
  readonly positions: Numbers;
  /** [tokens, 4]; see {@link AttentionShape} */
  readonly spans: Numbers;
  /** [rows] */
  readonly head_tokens: Numbers;
  /** [rows] */
  readonly targets: Numbers;
  /** [sequences + 1] */
  readonly sequence_rows: Numbers;
}

/** Low-rank adapters by module name, such as `model.layers.0.self_attn.q_proj`. */
export interface DecoderLora {
  readonly rank: number;
  /** alpha / r */
  readonly scale: number;
  /** a [rank, inputs], b [outputs, rank]; a module without an entry is frozen. */
  readonly modules: ReadonlyMap<string, { readonly a: Numbers; readonly b: Numbers }>;
}

/** A decoder: sizes, weights by Hugging Face's tensor names, rotary frequencies, adapters. */
export interface Decoder {
  readonly config: DecoderConfig;
  readonly weights: ReadonlyMap<string, Numbers>;
  /** [head_dim / 2] */
  readonly frequencies: Numbers;
  readonly lora?: DecoderLora;
}

/** What a block keeps for its backward, every one [tokens, its width]. */
interface BlockActivations {
  readonly input: Numbers;
  readonly attentionInput: Numbers;
  readonly q: Numbers;
  readonly k: Numbers;
  readonly v: Numbers;
  readonly attended: Numbers;
  readonly middle: Numbers;
  readonly mlpInput: Numbers;
  readonly gate: Numbers;
  readonly up: Numbers;
  readonly activated: Numbers;
}

/** Results of {@link decoderForward}. */
export interface DecoderForward {
  readonly head: HeadResult;
  /** Average log-probability of each sequence, [sequences] */
  readonly averages: Float64Array;
  readonly blocks: readonly BlockActivations[];
  /** Residual stream after the last block and after the last norm, [tokens, hidden_size] */
  readonly last: Numbers;
  readonly normed: Numbers;
}

function weightOf({ weights }: Decoder, name: string): Numbers {
  const weight = weights.get(name);
  if (!weight) throw new RangeError(`the decoder has no weight ${name}`);
  return weight;
}

function headWeightName({ config }: Decoder): string {
  return config.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
}

/** Inputs and outputs of a linear module of a block, from its name's end. */
function linearSizes({ config }: Decoder, module: string): { inputs: number; outputs: number } {
  const hidden = config.hidden_size;
  const query = config.num_attention_heads * config.head_dim;
  const keyValue = config.num_key_value_heads * config.head_dim;
  switch (module.split(".").at(-1)) {
    case "q_proj":
      return { inputs: hidden, outputs: query };
    case "k_proj":
    case "v_proj":
      return { inputs: hidden, outputs: keyValue };
    case "o_proj":
      return { inputs: query, outputs: hidden };
    case "gate_proj":
    case "up_proj":
      return { inputs: hidden, outputs: config.intermediate_size };
    case "down_proj":
      return { inputs: config.intermediate_size, outputs: hidden };
    default:
      throw new RangeError(`${module} is not a linear module of a block`);
  }
}

/** y = x · Wᵀ, with the module's adapter where it has one. */
function linear(decoder: Decoder, module: string, x: Numbers): Float64Array {
  const { inputs, outputs } = linearSizes(decoder, module);
  const rows = x.length / inputs;
  const weight = weightOf(decoder, `${module}.weight`);
  const adapter = decoder.lora?.modules.get(module);
  if (!adapter) return matmul("nt", x, weight, { m: rows, n: outputs, k: inputs });
  const { rank, scale } = decoder.lora!;
  return loraLinear({ x, weight, ...adapter, scale }, { rows, inputs, outputs, rank }).y;
}

/** Returns dx and adds the module's own gradients: the adapter's where adapters are trained, else the weight's. */
function linearGrad(
  decoder: Decoder,
  module: string,
  x: Numbers,
  dy: Numbers,
  gradients: Gradients,
): Numbers {
  const { inputs, outputs } = linearSizes(decoder, module);
  const rows = x.length / inputs;
  const weight = weightOf(decoder, `${module}.weight`);
  const adapter = decoder.lora?.modules.get(module);
  if (adapter) {
    const { rank, scale } = decoder.lora!;
    const shape = { rows, inputs, outputs, rank };
    const { dx, da, db } = loraLinearGrad({ x, weight, ...adapter, scale }, dy, shape);
    accumulate(gradients, `${module}.lora_A.weight`, da);
    accumulate(gradients, `${module}.lora_B.weight`, db);
    return dx;
  }
  if (!decoder.lora) {
    accumulate(gradients, `${module}.weight`, matmul("tn", dy, x, { m: outputs, n: inputs, k: rows }));
  }
  return matmul("nn", dy, weight, { m: rows, n: inputs, k: outputs });
}

/** Gradients by tensor name. */
export type Gradients = Map<string, Float64Array>;

function accumulate(gradients: Gradients, name: string, gradient: Float64Array): void {
  const present = gradients.get(name);
  gradients.set(name, present ? add(present, gradient) : gradient);
}

function attentionShape({ config }: Decoder, batch: DecoderBatch): AttentionShape {
  return {
    tokens: batch.token_ids.length,
    heads: config.num_attention_heads,
    kvHeads: config.num_key_value_heads,
    headDim: config.head_dim,
    spans: batch.spans,
  };
}

/** The decoder over a packed stream: embedding, blocks, last norm, head, average log-probabilities. */
export function decoderForward(decoder: Decoder, batch: DecoderBatch): DecoderForward {
  const { config } = decoder;
  const { hidden_size: width, rms_norm_eps: eps, head_dim: headDim } = config;
  const shape = attentionShape(decoder, batch);
  const { cos, sin } = ropeTables(batch.positions, decoder.frequencies);
  const norm = (x: Numbers, name: string) => rmsNorm(x, weightOf(decoder, `${name}.weight`), width, eps).y;

  const blocks: BlockActivations[] = [];
  let stream = embedding(weightOf(decoder, "model.embed_tokens.weight"), batch.token_ids, width);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const name = `model.layers.${layer}`;
    const input = stream;
    const attentionInput = norm(input, `${name}.input_layernorm`);
    const query = linear(decoder, `${name}.self_attn.q_proj`, attentionInput);
    const key = linear(decoder, `${name}.self_attn.k_proj`, attentionInput);
    const v = linear(decoder, `${name}.self_attn.v_proj`, attentionInput);
    const q = rope(query, cos, sin, { tokens: shape.tokens, heads: shape.heads, headDim });
    const k = rope(key, cos, sin, { tokens: shape.tokens, heads: shape.kvHeads, headDim });
    const attended = attention(q, k, v, shape).out;
    const middle = add(input, linear(decoder, `${name}.self_attn.o_proj`, attended));
    const mlpInput = norm(middle, `${name}.post_attention_layernorm`);
    const gate = linear(decoder, `${name}.mlp.gate_proj`, mlpInput);
    const up = linear(decoder, `${name}.mlp.up_proj`, mlpInput);
    const activated = gatedActivation(ACTIVATIONS.silu, gate, up);
    stream = add(middle, linear(decoder, `${name}.mlp.down_proj`, activated));
    blocks.push({ input, attentionInput, q, k, v, attended, middle, mlpInput, gate, up, activated });
  }
  const normed = norm(stream, "model.norm");
  const result = head(headOperands(decoder, batch, normed));
  const averages = averageLogprobs(result.logprobs, batch.sequence_rows);
  return { head: result, averages, blocks, last: stream, normed };
}

function headOperands(decoder: Decoder, batch: DecoderBatch, hidden: Numbers) {
  return {
    hidden,
    weight: weightOf(decoder, headWeightName(decoder)),
    headTokens: batch.head_tokens,
    targets: batch.targets,
    width: decoder.config.hidden_size,
  };
}

/**
 * The mirror image of {@link decoderForward}.
 *
 * @param dAverages gradient of the loss by each sequence's average log-probability, [sequences]
 * @returns gradients of all weights by Hugging Face's names (a tied embedding holds both its parts); with adapters
 * only theirs, as `<module>.lora_A.weight` and `<module>.lora_B.weight`
 */
export function decoderBackward(
  decoder: Decoder,
  batch: DecoderBatch,
  forward: DecoderForward,
  dAverages: Numbers,
): Gradients {
  const { config } = decoder;
  const { hidden_size: width, rms_norm_eps: eps, head_dim: headDim } = config;
  const shape = attentionShape(decoder, batch);
  const { cos, sin } = ropeTables(batch.positions, decoder.frequencies);
  const gradients: Gradients = new Map();
  const full = !decoder.lora;
  const normGrad = (x: Numbers, dy: Numbers, name: string) => {
    const { dx, dw } = rmsNormGrad(x, weightOf(decoder, `${name}.weight`), dy, width, eps);
    if (full) accumulate(gradients, `${name}.weight`, dw);
    return dx;
  };

  const coefficients = averageLogprobsGrad(dAverages, batch.sequence_rows);
  const { dHidden, dWeight } = headGrad(headOperands(decoder, batch, forward.normed), coefficients);
  if (full) accumulate(gradients, headWeightName(decoder), dWeight);
  let dStream = normGrad(forward.last, dHidden, "model.norm");
  for (let layer = config.num_hidden_layers - 1; layer >= 0; layer--) {
    const name = `model.layers.${layer}`;
    const saved = forward.blocks[layer]!;
    const back = (module: string, x: Numbers, dy: Numbers) =>
      linearGrad(decoder, `${name}.${module}`, x, dy, gradients);

    const dActivated = back("mlp.down_proj", saved.activated, dStream);
    const { dGate, dUp } = gatedActivationGrad(ACTIVATIONS.silu, saved.gate, saved.up, dActivated);
    const dMlpInput = add(
      back("mlp.gate_proj", saved.mlpInput, dGate),
      back("mlp.up_proj", saved.mlpInput, dUp),
    );
    const dMiddle = add(dStream, normGrad(saved.middle, dMlpInput, `${name}.post_attention_layernorm`));

    const dAttended = back("self_attn.o_proj", saved.attended, dMiddle);
    const { dq, dk, dv } = attentionGrad(saved.q, saved.k, saved.v, dAttended, shape);
    const dQuery = ropeInverse(dq, cos, sin, { tokens: shape.tokens, heads: shape.heads, headDim });
    const dKey = ropeInverse(dk, cos, sin, { tokens: shape.tokens, heads: shape.kvHeads, headDim });
    const dAttentionInput = add(
      add(
        back("self_attn.q_proj", saved.attentionInput, dQuery),
        back("self_attn.k_proj", saved.attentionInput, dKey),
      ),
      back("self_attn.v_proj", saved.attentionInput, dv),
    );
    dStream = add(dMiddle, normGrad(saved.input, dAttentionInput, `${name}.input_layernorm`));
  }
  if (full) {
    const dTable = embeddingGrad(dStream, batch.token_ids, config.vocab_size, width);
    accumulate(gradients, "model.embed_tokens.weight", dTable);
  }
  return gradients;
}
