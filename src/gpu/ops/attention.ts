import type { Gpu } from "../device.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import { fold, type Launch, type Live, type Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import lanesSource from "../../../shaders/attention.wgsl" with { type: "text" };
import deltaSource from "../../../shaders/attention_grad_delta.wgsl" with { type: "text" };
import lanesKeySource from "../../../shaders/attention_grad_key.wgsl" with { type: "text" };
import tiledKeySource from "../../../shaders/attention_grad_key_tiled.wgsl" with { type: "text" };
import lanesQuerySource from "../../../shaders/attention_grad_query.wgsl" with { type: "text" };
import tiledQuerySource from "../../../shaders/attention_grad_query_tiled.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/attention_tiled.wgsl" with { type: "text" };
import chunksPrelude from "../../../shaders/chunks.wgsl" with { type: "text" };
import lanesPrelude from "../../../shaders/attention_lanes.wgsl" with { type: "text" };
import spansPrelude from "../../../shaders/attention_spans.wgsl" with { type: "text" };
import tilesPrelude from "../../../shaders/attention_tiles.wgsl" with { type: "text" };
import softCapPrelude from "../../../shaders/soft_cap.wgsl" with { type: "text" };

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
  /** Scores s = scale * q · k become softcap * tanh(s / softcap) before mask and softmax (Gemma 2); null for no cap. */
  readonly softcap?: number | null;
}

/** What attention reads and writes; rows past the live tokens are neither. */
export interface AttentionTensors {
  /** [tokens, heads * head_dim] */
  readonly q: Tensor;
  /** [keys, kv_heads * head_dim]: those of the tokens, unless `places` tells otherwise. */
  readonly k: Tensor;
  /** [keys, kv_heads * head_dim] */
  readonly v: Tensor;
  /**
   * u32 [tokens, 4]: token i sees [prefix_start, prefix_end) and [segment_start, i], and none from queries_end on sees
   * it. The first three never decrease along the stream.
   */
  readonly spans: Tensor;
  /** u32 [tokens]; what a window counts. They go up by one within a prefix and within a segment. */
  readonly positions: Tensor;
  /** Out, [tokens, heads * head_dim] */
  readonly o: Tensor;
  /** Out, [tokens, heads]: natural log-sum-exp of the scores. */
  readonly lse: Tensor;
}

/** Keys among which some are of no token in the stream: spans tell places then. */
export interface PlacedKeys {
  /** u32 [tokens], rising: where a token's own key stands. A prefix begins at position 0. */
  readonly places: Tensor;
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
 * How the work is divided. `lanes` suits the software driver: 8 tokens a workgroup, keys passed between its 8 lanes, no
 * workgroup memory. `tiled` suits GPUs: 32 tokens a workgroup, tiles of keys in workgroup memory; it runs anywhere.
 */
export type AttentionDesign = "lanes" | "tiled";

/**
 * Records attention over a packed stream: o_i = Σ_j softmax_j(scale · q_i · k_j) v_j over the tokens j that i sees, with
 * an online softmax.
 *
 * With `places` there are `keys` of the live numbers, else as many as tokens.
 *
 * @param design chosen by the device unless given
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttention<L extends Live & { tokens: number }>(
  gpu: Gpu,
  program: Program<L>,
  shape: AttentionShape,
  tensors: AttentionTensors & Partial<PlacedKeys>,
  design: AttentionDesign = designFor(gpu),
): void {
  const { q, k, v, spans, positions, o, lse, places } = tensors;
  const { kernel, launch } = plan("attention", shape, design, {
    lanes: lanesSource,
    tiled: tiledSource,
    heads: shape.heads,
    sharesKeys: true,
    placed: places !== undefined,
  });
  const bindings = { q, k, v, spans, positions, o, lse, ...(places && { places }) };
  program.dispatch(kernel, bindings, (live) => launch({ keys: places ? live.keys! : live.tokens })(live));
}

/**
 * Records the gradient of {@link recordAttention} from its outputs `o` and `lse`; the gradients are overwritten.
 *
 * @param design chosen by the device unless given
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttentionGrad<L extends Live & { tokens: number }>(
  gpu: Gpu,
  program: Program<L>,
  shape: AttentionShape,
  { q, k, v, spans, positions, o, lse, d_o, delta, d_q, d_k, d_v }: AttentionGradTensors,
  design: AttentionDesign = designFor(gpu),
): void {
  const { heads, kv_heads, head_dim } = shape;
  const deltaKernel = defineKernel({ name: "attention_grad_delta", source: deltaSource });
  program.dispatch(deltaKernel, { o, d_o, delta }, ({ tokens }) => ({
    params: { rows: tokens * heads, head_dim },
    workgroups: fold(Math.ceil(tokens * heads / 8)),
  }));
  const inputs = { q, k, v, d_o, lse, delta, spans, positions };
  const query = plan("attention_grad_query", shape, design, {
    lanes: lanesQuerySource,
    tiled: tiledQuerySource,
    heads,
    sharesKeys: false,
  });
  program.dispatch(query.kernel, { ...inputs, d_q }, query.launch());
  const key = plan("attention_grad_key", shape, design, {
    lanes: lanesKeySource,
    tiled: tiledKeySource,
    heads: kv_heads,
    sharesKeys: false,
  });
  // The tiled kernel sums over a group's query heads itself.
  const members = design === "lanes" ? heads / kv_heads : 1;
  for (let member = 0; member < members; member++) {
    program.dispatch(key.kernel, { ...inputs, d_k, d_v }, key.launch({ member }));
  }
}

function designFor(gpu: Gpu): AttentionDesign {
  return gpu.software && gpu.subgroupSize === 8 ? "lanes" : "tiled";
}

/** Elements of a head that `lanes` kernels walk in straight-line code; more compile for seconds. */
const LARGEST_SLICE = 64;

interface Sources {
  readonly lanes: string;
  readonly tiled: string;
  /** Heads that the outputs have. */
  readonly heads: number;
  /** Whether the `lanes` kernel can take several heads at a time that see the same keys. */
  readonly sharesKeys: boolean;
  /** Whether keys have places of their own. */
  readonly placed?: boolean;
}

type LaunchFor = (more?: Record<string, number>) => (live: { readonly tokens: number }) => Launch;

/** Specialises a kernel for the head size. */
function plan(
  name: string,
  shape: AttentionShape,
  design: AttentionDesign,
  sources: Sources,
): { kernel: Kernel; launch: LaunchFor } {
  const { heads, kv_heads, head_dim, scale } = shape;
  if (heads % kv_heads !== 0) {
    throw new RangeError(`${heads} query heads cannot share ${kv_heads} key/value heads evenly.`);
  }
  const window = shape.window ?? 0;
  const softcap = shape.softcap ?? 0;
  const rules = {
    WINDOWED: shape.window == null ? 0 : 1,
    SOFTCAP: shape.softcap == null ? 0 : 1,
    PLACED: sources.placed ? 1 : 0,
  };
  const preludes = [spansPrelude, softCapPrelude];
  const launch = (block: number, perHead: number): LaunchFor => (more) => ({ tokens }) => ({
    params: { tokens, heads, kv_heads, scale, window, softcap, ...more },
    workgroups: fold(Math.ceil(tokens / block) * sources.heads * perHead),
  });
  if (design === "tiled") {
    const constants = { HD: head_dim, SLICES: Math.ceil(head_dim / 32), ...rules };
    const kernel = defineKernel({
      name: `${name}_tiled`,
      source: sources.tiled,
      preludes: [...preludes, tilesPrelude],
      constants,
    });
    return { kernel, launch: launch(32, 1) };
  }
  const WIDTH = head_dim % 4 === 0 ? 4 : 1; // scalars where rows of a head are not aligned to vec4
  const CHUNKS = head_dim / WIDTH;
  const SLICES = Math.ceil(head_dim / LARGEST_SLICE);
  // two heads of a group share what is loaded of keys and values
  const HEADS = sources.sharesKeys && SLICES === 1 && heads / kv_heads % 2 === 0 ? 2 : 1;
  const SLICE = Math.ceil(CHUNKS / SLICES);
  const constants = { WIDTH, CHUNKS, SLICES, SLICE, HEADS, ...rules };
  const kernel = defineKernel({
    name,
    source: sources.lanes,
    preludes: [chunksPrelude, lanesPrelude, ...preludes],
    constants,
  });
  return { kernel, launch: launch(8, SLICES / HEADS) };
}
