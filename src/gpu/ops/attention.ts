import { defineKernel } from "../kernel.ts";
import { fold, type Launch } from "../launch.ts";
import type { Live, Program } from "../program.ts";
import type { Tensor, Tensors } from "../tensor.ts";
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
  const bindings = { q, k, v, spans, positions, o, lse, ...(places && { places }) };
  recordDesign(program, bindings, shape, {
    name: "attention",
    lanes: lanesSource,
    tiled: tiledSource,
    heads: shape.heads,
    block: queryBlock(shape, shape.head_dim <= 64 ? 4 : 2),
    params: (live) => ({ keys: places ? live.keys! : live.tokens }),
  });
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
  checkHeads(shape);
  const { heads, kv_heads, head_dim } = shape;
  const deltaKernel = defineKernel({ name: "attention_grad_delta", source: deltaSource });
  program.dispatch(deltaKernel, { o, d_o, delta }, ({ tokens }) => ({
    params: { rows: tokens * heads, head_dim },
    invocations: tokens * heads,
  }));
  const inputs = { q, k, v, d_o, lse, delta, spans, positions };
  recordDesign(program, { ...inputs, d_q }, shape, {
    name: "attention_grad_query",
    lanes: lanesQuerySource,
    tiled: tiledQuerySource,
    heads,
    block: queryBlock(shape, 2),
  });
  // The tiled kernel sums over a group's query heads itself.
  const members = program.policy.attention === "lanes" ? heads / kv_heads : 1;
  for (let member = 0; member < members; member++) {
    recordDesign(program, { ...inputs, d_k, d_v }, shape, {
      name: "attention_grad_key",
      lanes: lanesKeySource,
      tiled: tiledKeySource,
      heads: kv_heads,
      block: { KEYS: head_dim <= 64 ? 2 : 1 },
      params: () => ({ member }),
    });
  }
}

/**
 * Keys (or queries, for the gradient of the keys) that `lanes` kernels take a turn: with few the turn's straight-line
 * code fits a processor's instruction cache, beside two heads or two rows a lane. Mesa 22 ends all loops of an invocation
 * after 65,535 iterations together, of which a turn takes two.
 */
const TURN = { most_rows: 60_000, few: 2, many: 8 } as const;

/** A kernel in both designs. */
interface Designs<L extends Live> {
  readonly name: string;
  readonly lanes: string;
  readonly tiled: string;
  /** Heads that the outputs have. */
  readonly heads: number;
  /** What a lane of the `lanes` kernel computes: queries of heads that see the same keys, or keys. */
  readonly block: { readonly HEADS: number; readonly QUERIES: number } | { readonly KEYS: number };
  /** Parameters beside those that all have. */
  readonly params?: (live: L) => Launch["params"];
}

/** Records the kernel of the program's design, specialised for the head size. */
function recordDesign<L extends Live & { tokens: number }>(
  program: Program<L>,
  tensors: Tensors & Tensors<"k">,
  { heads, kv_heads, head_dim, scale, window, softcap }: AttentionShape,
  { name, lanes, tiled, heads: outputs, block, params }: Designs<L>,
): void {
  const isTiled = program.policy.attention === "tiled";
  const WIDTH = head_dim % 4 === 0 ? 4 : 1; // scalars where rows of a head are not aligned to vec4
  const CHUNKS = head_dim / WIDTH;
  const turn = tensors.k.shape[0]! > TURN.most_rows ? TURN.many : TURN.few;
  const kernel = defineKernel({
    name: isTiled ? `${name}_tiled` : name,
    source: isTiled ? tiled : lanes,
    preludes: [
      ...isTiled ? [] : [chunksPrelude, lanesPrelude],
      spansPrelude,
      softCapPrelude,
      ...isTiled ? [tilesPrelude] : [],
    ],
    constants: {
      ...isTiled
        ? { HD: head_dim, SLICES: Math.ceil(head_dim / 32) }
        : { WIDTH, CHUNKS, TURN: turn, PIECE: Math.ceil(CHUNKS * turn / 8), ...block },
      WINDOWED: window == null ? 0 : 1,
      SOFTCAP: softcap == null ? 0 : 1,
      PLACED: "places" in tensors ? 1 : 0,
    },
  });
  const [x, y] = kernel.workgroup;
  const [rows, heads_at_once] = isTiled
    ? [4 * y, 1]
    : "KEYS" in block
    ? [x * block.KEYS, 1]
    : [x * block.QUERIES, block.HEADS];
  const rules = { heads, kv_heads, scale, window: window ?? 0, softcap: softcap ?? 0 };
  program.dispatch(kernel, tensors, (live) => {
    const { tokens } = live;
    const blocks = Math.ceil(tokens / rows);
    return {
      params: {
        tokens,
        ...rules,
        ...isTiled ? {} : { blocks, stride: evenStride(blocks) },
        ...params?.(live),
      },
      workgroups: fold(blocks * outputs / heads_at_once),
    };
  });
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
