import type { Gpu } from "../device.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import { fold, type Live, type Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import forwardSource from "../../../shaders/attention.wgsl" with { type: "text" };
import deltaSource from "../../../shaders/attention_grad_delta.wgsl" with { type: "text" };
import keySource from "../../../shaders/attention_grad_key.wgsl" with { type: "text" };
import querySource from "../../../shaders/attention_grad_query.wgsl" with { type: "text" };

/** Sizes and rules of grouped-query attention. */
export interface AttentionShape {
  readonly heads: number;
  /** Query head h reads key/value head floor(h / (heads / kv_heads)). */
  readonly kv_heads: number;
  readonly head_dim: number;
  /** Multiplies q · k; 1 / sqrt(head_dim) as a rule. */
  readonly scale: number;
  /** Token i sees token j only where position_i - position_j is below this; null for no limit. */
  readonly window?: number | null;
}

/** What attention reads and writes; rows past the live tokens are neither. */
export interface AttentionTensors {
  /** [tokens, heads * head_dim] */
  readonly q: Tensor;
  /** [tokens, kv_heads * head_dim] */
  readonly k: Tensor;
  /** [tokens, kv_heads * head_dim] */
  readonly v: Tensor;
  /** u32 [tokens, 4]: token i sees [prefix_start, prefix_end) and [segment_start, i]; seen by none from queries_end on. */
  readonly spans: Tensor;
  /** u32 [tokens]; what a window counts. */
  readonly positions: Tensor;
  /** Out, [tokens, heads * head_dim] */
  readonly o: Tensor;
  /** Out, [tokens, heads]: natural log-sum-exp of the scaled scores. */
  readonly lse: Tensor;
}

/** What attention's backward reads and writes. */
export interface AttentionGradTensors extends AttentionTensors {
  /** Gradient of o, [tokens, heads * head_dim] */
  readonly d_o: Tensor;
  /** Scratch, [tokens, heads] */
  readonly delta: Tensor;
  /** Out, [tokens, heads * head_dim] */
  readonly d_q: Tensor;
  /** Out, [tokens, kv_heads * head_dim] */
  readonly d_k: Tensor;
  /** Out, [tokens, kv_heads * head_dim] */
  readonly d_v: Tensor;
}

/**
 * Records attention over a packed stream: o_i = Σ_j softmax_j(scale · q_i · k_j) v_j over the tokens j that i sees, with
 * an online softmax.
 *
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttention<L extends Live & { tokens: number }>(
  _gpu: Gpu,
  program: Program<L>,
  shape: AttentionShape,
  { q, k, v, spans, positions, o, lse }: AttentionTensors,
): void {
  const { kernel, parts } = plan("attention", forwardSource, shape, 64);
  program.dispatch(kernel, { q, k, v, spans, positions, o, lse }, ({ tokens }) => ({
    params: params(shape, tokens),
    workgroups: fold(Math.ceil(tokens / 8) * shape.heads * parts),
  }));
}

/**
 * Records the gradient of {@link recordAttention} from its outputs `o` and `lse`; the gradients are overwritten.
 *
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttentionGrad<L extends Live & { tokens: number }>(
  _gpu: Gpu,
  program: Program<L>,
  shape: AttentionShape,
  { q, k, v, spans, positions, o, lse, d_o, delta, d_q, d_k, d_v }: AttentionGradTensors,
): void {
  const { heads, kv_heads, head_dim } = shape;
  const deltaKernel = defineKernel({ name: "attention_grad_delta", source: deltaSource });
  program.dispatch(deltaKernel, { o, d_o, delta }, ({ tokens }) => ({
    params: { rows: tokens * heads, head_dim },
    workgroups: fold(Math.ceil(tokens * heads / 8)),
  }));
  const inputs = { q, k, v, d_o, lse, delta, spans, positions };
  const query = plan("attention_grad_query", querySource, shape, 64);
  program.dispatch(query.kernel, { ...inputs, d_q }, ({ tokens }) => ({
    params: params(shape, tokens),
    workgroups: fold(Math.ceil(tokens / 8) * heads * query.parts),
  }));
  const key = plan("attention_grad_key", keySource, shape, 32);
  for (let member = 0; member < heads / kv_heads; member++) {
    program.dispatch(key.kernel, { ...inputs, d_k, d_v }, ({ tokens }) => ({
      params: { ...params(shape, tokens), member },
      workgroups: fold(Math.ceil(tokens / 8) * kv_heads * key.parts),
    }));
  }
}

/** Elements of a head that a dot product walks in straight-line code; more compile for seconds. */
const LARGEST_SLICE = 64;

/**
 * Specialises a kernel for the head size. Chunks are vec4 where rows of a head are aligned to 4, else scalars.
 *
 * @param largestPart elements of a head that one invocation writes at most
 */
function plan(
  name: string,
  source: string,
  shape: AttentionShape,
  largestPart: number,
): { kernel: Kernel; parts: number } {
  const { heads, kv_heads, head_dim, window } = shape;
  if (heads % kv_heads !== 0) {
    throw new RangeError(`${heads} query heads cannot share ${kv_heads} key/value heads evenly.`);
  }
  const width = head_dim % 4 === 0 ? 4 : 1;
  const chunks = head_dim / width;
  const slices = Math.ceil(head_dim / LARGEST_SLICE);
  const parts = Math.ceil(head_dim / largestPart);
  const constants = {
    WIDTH: width,
    CHUNKS: chunks,
    SLICES: slices,
    SLICE: Math.ceil(chunks / slices),
    PARTS: parts,
    PART: Math.ceil(chunks / parts),
    WHOLE: slices === 1 && parts === 1 ? 1 : 0,
    WINDOWED: window == null ? 0 : 1,
  };
  return { kernel: defineKernel({ name, source, constants }), parts };
}

function params(shape: AttentionShape, tokens: number): Record<string, number> {
  const { heads, kv_heads, scale, window } = shape;
  return { tokens, heads, kv_heads, scale, window: window ?? 0 };
}
