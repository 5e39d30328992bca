import { defineKernel, type Kernel } from "../kernel.ts";
import type { AttentionDesign } from "../policy.ts";
import { fold, type Launch, type Live, type Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import lanesSource from "../../../shaders/software/attention.wgsl" with { type: "text" };
import deltaSource from "../../../shaders/attention_grad_delta.wgsl" with { type: "text" };
import lanesKeySource from "../../../shaders/software/attention_grad_key.wgsl" with { type: "text" };
import tiledKeySource from "../../../shaders/attention_grad_key_tiled.wgsl" with { type: "text" };
import lanesQuerySource from "../../../shaders/software/attention_grad_query.wgsl" with { type: "text" };
import tiledQuerySource from "../../../shaders/attention_grad_query_tiled.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/attention_tiled.wgsl" with { type: "text" };
import chunksPrelude from "../../../shaders/lib/chunks.wgsl" with { type: "text" };
import lanesPrelude from "../../../shaders/software/attention_lanes.wgsl" with { type: "text" };
import spansPrelude from "../../../shaders/lib/attention_spans.wgsl" with { type: "text" };
import tilesPrelude from "../../../shaders/lib/attention_tiles.wgsl" with { type: "text" };
import softCapPrelude from "../../../shaders/lib/soft_cap.wgsl" with { type: "text" };

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
 * Records attention over a packed stream: o_i = Σ_j softmax_j(scale · q_i · k_j) v_j over the tokens j that i sees, with
 * an online softmax.
 *
 * With `places` there are `keys` of the live numbers, else as many as tokens.
 *
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttention<L extends Live & { tokens: number }>(
  program: Program<L>,
  tensors: AttentionTensors & Partial<PlacedKeys>,
  shape: AttentionShape,
): void {
  checkHeads(shape);
  const { q, k, v, spans, positions, o, lse, places } = tensors;
  const { kernel, launch } = plan("attention", shape, program.policy.attention, {
    lanes: lanesSource,
    tiled: tiledSource,
    heads: shape.heads,
    block: queryBlock(shape, shape.head_dim <= 64 ? 4 : 2),
    rows: k.shape[0]!,
    placed: places !== undefined,
  });
  const bindings = { q, k, v, spans, positions, o, lse, ...(places && { places }) };
  program.dispatch(kernel, bindings, (live) => launch({ keys: places ? live.keys! : live.tokens })(live));
}

/**
 * Records the gradient of {@link recordAttention} from its outputs `o` and `lse`; the gradients are overwritten.
 *
 * @throws {RangeError} where kv_heads does not divide heads
 */
export function recordAttentionGrad<L extends Live & { tokens: number }>(
  program: Program<L>,
  { q, k, v, spans, positions, o, lse, d_o, delta, d_q, d_k, d_v }: AttentionGradTensors,
  shape: AttentionShape,
): void {
  const design = program.policy.attention;
  checkHeads(shape);
  const { heads, kv_heads, head_dim } = shape;
  const deltaKernel = defineKernel({ name: "attention_grad_delta", source: deltaSource });
  program.dispatch(deltaKernel, { o, d_o, delta }, ({ tokens }) => ({
    params: { rows: tokens * heads, head_dim },
    invocations: tokens * heads,
  }));
  const inputs = { q, k, v, d_o, lse, delta, spans, positions };
  const query = plan("attention_grad_query", shape, design, {
    lanes: lanesQuerySource,
    tiled: tiledQuerySource,
    heads,
    block: queryBlock(shape, 2),
    rows: k.shape[0]!,
  });
  program.dispatch(query.kernel, { ...inputs, d_q }, query.launch());
  const key = plan("attention_grad_key", shape, design, {
    lanes: lanesKeySource,
    tiled: tiledKeySource,
    heads: kv_heads,
    block: { KEYS: head_dim <= 64 ? 2 : 1 },
    rows: k.shape[0]!,
  });
  // The tiled kernel sums over a group's query heads itself.
  const members = design === "lanes" ? heads / kv_heads : 1;
  for (let member = 0; member < members; member++) {
    program.dispatch(key.kernel, { ...inputs, d_k, d_v }, key.launch({ member }));
  }
}

/**
 * Keys (or queries, for the gradient of the keys) that `lanes` kernels take a turn: with few the turn's straight-line
 * code fits a processor's instruction cache, beside two heads or two rows a lane. Mesa 22 ends all loops of an invocation
 * after 65,535 iterations together, of which a turn takes two.
 */
const TURN = { most_rows: 60_000, few: 2, many: 8 } as const;

interface Sources {
  readonly lanes: string;
  readonly tiled: string;
  /** Heads that the outputs have. */
  readonly heads: number;
  /** What a lane of the `lanes` kernel computes: queries of heads that see the same keys, or keys. */
  readonly block: { readonly HEADS: number; readonly QUERIES: number } | { readonly KEYS: number };
  /** Most rows that an invocation walks. */
  readonly rows: number;
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
  const window = shape.window ?? 0;
  const softcap = shape.softcap ?? 0;
  const rules = {
    WINDOWED: shape.window == null ? 0 : 1,
    SOFTCAP: shape.softcap == null ? 0 : 1,
    PLACED: sources.placed ? 1 : 0,
  };
  const preludes = [spansPrelude, softCapPrelude];
  const launch = (rows: number, heads_at_once: number): LaunchFor => (more) => ({ tokens }) => {
    const blocks = Math.ceil(tokens / rows);
    const params = { tokens, heads, kv_heads, scale, window, softcap, ...more };
    return {
      params: design === "tiled" ? params : { ...params, blocks, stride: evenStride(blocks) },
      workgroups: fold(blocks * sources.heads / heads_at_once),
    };
  };
  if (design === "tiled") {
    const constants = { HD: head_dim, SLICES: Math.ceil(head_dim / 32), ...rules };
    const kernel = defineKernel({
      name: `${name}_tiled`,
      source: sources.tiled,
      preludes: [...preludes, tilesPrelude],
      constants,
    });
    return { kernel, launch: launch(4 * kernel.workgroup[1], 1) };
  }
  const WIDTH = head_dim % 4 === 0 ? 4 : 1; // scalars where rows of a head are not aligned to vec4
  const CHUNKS = head_dim / WIDTH;
  const turn = sources.rows > TURN.most_rows ? TURN.many : TURN.few;
  const { block } = sources;
  const constants = { WIDTH, CHUNKS, TURN: turn, PIECE: Math.ceil(CHUNKS * turn / 8), ...block, ...rules };
  const kernel = defineKernel({
    name,
    source: sources.lanes,
    preludes: [chunksPrelude, lanesPrelude, ...preludes],
    constants,
  });
  const [rows, heads_at_once] = "KEYS" in block ? [block.KEYS, 1] : [block.QUERIES, block.HEADS];
  return { kernel, launch: launch(kernel.workgroup[0] * rows, heads_at_once) };
}

/**
 * Distance between the blocks of tokens that neighbouring workgroups compute. Late tokens see more keys than early ones,
 * and the software driver gives each of its threads one run of workgroups: steps of the golden section spread any run
 * evenly over all blocks.
 *
 * @returns a number without a common divisor with `blocks`; its product with them fits a u32
 */
function evenStride(blocks: number): number {
  if (blocks > 65_536) return 1;
  let stride = Math.max(1, Math.round(blocks * (Math.sqrt(5) - 1) / 2));
  while (greatestCommonDivisor(stride, blocks) > 1) stride++;
  return stride;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}

function checkHeads({ heads, kv_heads }: AttentionShape): void {
  if (heads % kv_heads !== 0) {
    throw new RangeError(`${heads} query heads cannot share ${kv_heads} key/value heads evenly.`);
  }
}

/** Up to `most` rows of head sizes up to 128: two heads of a group first, which share their keys, then two queries. */
function queryBlock(
  { heads, kv_heads, head_dim }: AttentionShape,
  most: number,
): { HEADS: number; QUERIES: number } {
  if (head_dim > 128) return { HEADS: 1, QUERIES: 1 };
  const HEADS = heads / kv_heads % 2 === 0 ? 2 : 1;
  return { HEADS, QUERIES: Math.min(2, most / HEADS) };
}
