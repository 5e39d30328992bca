import type { Gpu } from "../device.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import type { KernelPolicy } from "../policy.ts";
import type { Live, Program } from "../program.ts";
import { STORAGE } from "../storage.ts";
import type { Tensor } from "../tensor.ts";
import type { Constants } from "../wgsl.ts";
import { type Activation, gateShader, recordCopy } from "./elementwise.ts";
import { recordElements } from "./launch.ts";
import {
  CANDIDATES,
  MATMUL_TILES,
  type MatmulLayout,
  PARTIAL_SUMS,
  shapeClass,
  splitLength,
  tileKey,
} from "./matmul_tiles.ts";
import operandsSource from "../../../shaders/matmul_operands.wgsl" with { type: "text" };
import chunksPrelude from "../../../shaders/chunks.wgsl" with { type: "text" };
import registersSource from "../../../shaders/matmul_registers.wgsl" with { type: "text" };
import packPanelsSource from "../../../shaders/pack_panels.wgsl" with { type: "text" };
import sumSplitsSource from "../../../shaders/sum_splits.wgsl" with { type: "text" };
import tiledSource from "../../../shaders/matmul_tiled.wgsl" with { type: "text" };

/** What a matrix product reads and writes. */
export interface MatmulTensors {
  /** f32 */
  readonly a: Tensor;
  /** f32; for NN and NT also a format whose rows are a multiple of `row_multiple` long, as {@link STORAGE} has it. */
  readonly b: Tensor;
  /** f32 */
  readonly c: Tensor;
  /**
   * Goes into the same sums: u [m, r], and v [n, r] for `NT`, [r, n] for `NN`; f32. Not for `TN`.
   */
  readonly low_rank?: { readonly u: Tensor; readonly v: Tensor };
  /** [n], f32. Like `gate` for sums of at most 65,536 steps. */
  readonly bias?: Tensor;
  /** Of C's shape, all of whose columns are written; C = residual + P without a pass that copies it. */
  readonly residual?: Tensor;
}

/**
 * A matrix product P = alpha · X · Y, with a low-rank update alpha · (X · Y + U · V), with a bias in every row; and C = P,
 * or C += P, or C = residual + P, or C = activation(C) ⊙ P.
 */
export interface MatmulOptions<L extends Live> {
  /**
   * How A and B lie in memory; C is always [m, n].
   *
   * - `NT`: A [m, k], B [n, k] (a linear layer's forward, B its weight)
   * - `NN`: A [m, k], B [k, n] (the gradient of its input)
   * - `TN`: A [k, m], B [k, n] (the gradient of its weight)
   */
  readonly layout: MatmulLayout;
  /** Live sizes, at most those of the tensors' shapes [rows, columns]; row strides come from the shapes. */
  readonly size: (live: L) => { m: number; k: number };
  /** All columns that B has and C has room for, unless given. */
  readonly n?: number;
  /** 1 unless given. */
  readonly alpha?: number;
  /** Adds to C instead of overwriting it. */
  readonly accumulate?: boolean;
  /** C holds a gated mlp's gates and gets its product: one pass less, and no tensor for what they gate. */
  readonly gate?: Activation;
}

interface Matmul<L extends Live> extends MatmulTensors, MatmulOptions<L> {}

/** A kernel with the block of C that one of its workgroups computes. */
interface Tile {
  readonly kernel: Kernel;
  readonly rows: number;
  readonly columns: number;
}

const LAYOUTS = { NT: 0, NN: 1, TN: 2 } as const;

/**
 * Longest sum of one dispatch, a multiple of every kernel's step: Mesa 22 ends all loops of an invocation early after
 * 65,535 iterations together, and partial sums keep f32 accumulation exact enough.
 */
const MAX_K = 65536;

/** Numbers in the panels into which columns of B are copied. */
const PANELS = 2 ** 20;
/** Rows of C that pay for the copy. */
const PANELS_LEAST_M = 256;
/** Bytes of a core's second cache that a workgroup's columns of B must fill. */
const SECOND_CACHE = 2 ** 21;

/**
 * Records a matrix product with the device's matmul design. Accumulation is f32; rows and columns of C outside the live
 * m and n keep what they hold.
 *
 * @throws {TypeError} where the tensors' types or shapes do not fit the layout
 * @throws {RangeError} where a bias or gates would wait for a second part of the sum
 */
export function recordMatmul<L extends Live>(
  program: Program<L>,
  tensors: MatmulTensors,
  options: MatmulOptions<L>,
): void {
  record(program, { ...tensors, ...options });
}

function record<L extends Live>(program: Program<L>, spec: Matmul<L>): void {
  const { gpu, policy } = program;
  const { layout, a, b, c, low_rank, bias, residual, gate, alpha = 1, accumulate = false } = spec;
  check(spec);
  if (low_rank && !gate && isAligned(a, b, c) && !isAligned(low_rank.u, low_rank.v)) {
    // one kernel would have to load all operands one by one
    const { u, v } = low_rank;
    const { low_rank: _, ...product } = spec;
    record(program, product);
    const { bias: _bias, residual: _residual, ...update } = product;
    const size = (live: L) => ({ m: spec.size(live).m, k: u.shape[1]! });
    record(program, { ...update, a: u, b: v, size, accumulate: true });
    return;
  }
  const rank = low_rank?.u.shape[1] ?? 0;
  const most = {
    m: Math.min(c.shape[0]!, a.shape[layout === "TN" ? 1 : 0]!),
    n: Math.min(c.shape[1]!, b.shape[layout === "NT" ? 0 : 1]!),
    k: Math.min(a.shape[layout === "TN" ? 0 : 1]!, b.shape[layout === "NT" ? 1 : 0]!),
  };
  const n = spec.n ?? most.n;
  if (residual && !(isAligned(a, b, c) && n % 4 === 0 && n > 16 && most.k <= MAX_K)) {
    const { residual: _, ...rest } = spec;
    recordCopy(program, { x: residual, y: c }, { count: (live) => spec.size(live).m * c.shape[1]! });
    record(program, { ...rest, accumulate: true });
    return;
  }
  const mostSteps = Math.min(most.k, MAX_K);
  if ((bias || gate) && most.k > MAX_K) {
    throw new RangeError(
      `matmul ${layout} of ${a.name} and ${b.name}: ${most.k} steps pass ${MAX_K} with a bias or gates.`,
    );
  }
  const plain = !low_rank && !bias && !residual && !gate;
  const divisible = policy.matmul === "tiled" && plain && isAligned(a, b, c) && n % 4 === 0;
  const k_split = divisible ? splitLength(layout, most.m, n, mostSteps) : mostSteps;
  const partials = k_split < mostSteps ? scratch(gpu, "partial sums", PARTIAL_SUMS) : null;
  const readsC = !partials && (accumulate || gate !== undefined || most.k > MAX_K || n % 4 !== 0);
  const { kernel, rows, columns } = chooseTile(policy, spec, most.m, n, readsC);
  const packs = packsPanels(policy, spec, most, columns);
  const panels = packs ? scratch(gpu, "panels", PANELS) : null;
  const epilogue = { ...(bias && { bias }), ...(residual && { residual }) };
  const tensors = { a, b: panels ?? b, c: partials ?? c, ...low_rank, ...epilogue };
  const slab = packs ? Math.floor(PANELS / (columns * most.k)) * columns : Infinity;
  for (let begin = 0; begin === 0 || begin < most.k; begin += MAX_K) {
    const adds = accumulate || begin > 0;
    const sharesOf = (k: number) => Math.ceil(Math.min(Math.max(0, k - begin), MAX_K) / k_split);
    for (let first = 0; first === 0 || first < n; first += slab) {
      const last = Math.min(n, first + slab);
      if (panels) recordPacking(program, spec, panels, columns, first, last);
      program.dispatch(kernel, tensors, (live) => {
        const { m, k } = spec.size(live);
        if (m > most.m || n > most.n || k > most.k) {
          throw new RangeError(
            `matmul ${layout} of ${a.name} and ${b.name}: ${m} x ${n} x ${k} passes ${most.m} x ${most.n} x ${most.k}.`,
          );
        }
        const params = {
          m,
          n_begin: first,
          n: last,
          k_begin: begin,
          k_end: Math.min(k, begin + MAX_K),
          a_stride: a.shape[1]!,
          b_stride: panels ? columns : b.shape[1]!,
          b_panel: panels ? k * columns : columns,
          c_stride: partials ? n : c.shape[1]!,
          accumulate: Number((adds || residual !== undefined) && !partials),
          alpha: partials ? 1 : alpha,
          k_split: Math.max(k_split, rank),
          ...(low_rank && {
            rank: begin === 0 ? rank : 0,
            u_stride: rank,
            v_stride: low_rank.v.shape[1]!,
          }),
        };
        const empty = begin === 0 && (!accumulate || rank > 0) && !partials; // is stored all the same
        const shares = Math.max(sharesOf(k), Number(empty));
        return { params, workgroups: [Math.ceil(m / rows), Math.ceil((last - first) / columns), shares] };
      });
    }
    if (!partials) continue;
    recordElements(program, { name: "sum_splits", source: sumSplitsSource }, { partials, c }, (live) => {
      const { m, k } = spec.size(live);
      const splits = sharesOf(k);
      const params = { m, n, splits, c_stride: c.shape[1]!, accumulate: Number(adds), alpha };
      return { params, elements: splits > 0 || !adds ? m * n / 4 : 0 };
    });
  }
}

/**
 * Whether the columns of B that a workgroup reads are first copied side by side, for the workgroups along m that read them
 * after it: they would not find them in the second cache. Rows that lie a multiple of a power of two apart leave the sets
 * between them empty, as if each were so long.
 */
function packsPanels<L extends Live>(
  policy: KernelPolicy,
  { layout, b }: Matmul<L>,
  most: { m: number; k: number },
  columns: number,
): boolean {
  const stride = 4 * b.shape[1]!;
  const rowBytes = Math.max(4 * columns, stride & -stride);
  return policy.matmul !== "tiled" && layout !== "NT" && b.dtype === "f32" && columns >= 64 &&
    most.m >= PANELS_LEAST_M && rowBytes * most.k >= SECOND_CACHE && columns * most.k <= PANELS;
}

/** Records the copy of B's columns [first, last) into panels of `columns`. */
function recordPacking<L extends Live>(
  program: Program<L>,
  { b, size }: Matmul<L>,
  panels: Tensor,
  columns: number,
  first: number,
  last: number,
): void {
  const kernel = defineKernel({
    name: `pack_panels_${columns}`,
    source: packPanelsSource,
    preludes: [STORAGE.f32],
    constants: { ALIGNED: 1, COLUMNS: columns },
  });
  program.dispatch(kernel, { b, panels }, (live) => {
    const { k } = size(live);
    const params = { k, first, last, b_stride: b.shape[1]! };
    const wide = 4 * kernel.workgroup[0]; // an invocation copies 4 columns of 4 rows
    return { params, workgroups: [Math.ceil((last - first) / wide), Math.ceil(k / 4), 1] };
  });
}

const scratchOf = new WeakMap<Gpu, Map<string, Tensor>>();

/** What one product at a time puts aside; of fixed size, and therefore not in the account. */
function scratch(gpu: Gpu, name: string, count: number): Tensor {
  const tensors = scratchOf.get(gpu) ?? new Map<string, Tensor>();
  scratchOf.set(gpu, tensors);
  const known = tensors.get(name);
  if (known) return known;
  const buffer = gpu.device.createBuffer({ label: name, size: 4 * count, usage: GPUBufferUsage.STORAGE });
  const made: Tensor = { name, buffer, offset: 0, bytes: 4 * count, shape: [count], dtype: "f32" };
  tensors.set(name, made);
  return made;
}

function check<L extends Live>(spec: Matmul<L>): void {
  const { layout, a, b, c, low_rank } = spec;
  const name = `matmul ${layout} of ${a.name} and ${b.name}`;
  if (a.dtype !== "f32" || c.dtype !== "f32") throw new TypeError(`${name}: A and C must be f32.`);
  if (b.dtype === "u32" || (b.dtype !== "f32" && layout === "TN")) {
    throw new TypeError(`${name}: B cannot be ${b.dtype}.`);
  }
  if ([a, b, c].some((tensor) => tensor.shape.length !== 2)) {
    throw new TypeError(
      `${name}: shapes must be [rows, columns], not [${a.shape}], [${b.shape}], [${c.shape}].`,
    );
  }
  const { row_multiple } = STORAGE[b.dtype];
  if (b.shape[1]! % row_multiple !== 0) {
    throw new TypeError(
      `${name}: rows of ${b.dtype} must be a multiple of ${row_multiple} long, not ${b.shape[1]}.`,
    );
  }
  checkEpilogue(name, spec);
  if (!low_rank) return;
  const { u, v } = low_rank;
  const [columns, r] = layout === "NT" ? v.shape : v.shape.toReversed();
  if (
    layout === "TN" || u.dtype !== "f32" || v.dtype !== "f32" || u.shape[0]! < a.shape[0]! ||
    columns !== b.shape[layout === "NT" ? 0 : 1] || r !== u.shape[1]
  ) {
    throw new TypeError(
      `${name}: ${u.name} [${u.shape}] and ${v.name} [${v.shape}] are no low-rank update of it.`,
    );
  }
}

function checkEpilogue<L extends Live>(name: string, spec: Matmul<L>): void {
  const { layout, b, c, bias, residual, gate, accumulate, n = c.shape[1] } = spec;
  const isF32 = ({ dtype, shape }: Tensor, wanted: readonly (number | undefined)[]) =>
    dtype === "f32" && shape.join() === wanted.join();
  if (bias && !isF32(bias, [b.shape[layout === "NT" ? 0 : 1]])) {
    throw new TypeError(`${name}: ${bias.name} ${bias.dtype} [${bias.shape}] is no bias of it.`);
  }
  if (residual && !(isF32(residual, c.shape) && n === c.shape[1])) {
    const { name: of, dtype, shape } = residual;
    throw new TypeError(`${name}: ${of} ${dtype} [${shape}] is no residual of all of C [${c.shape}].`);
  }
  if ([gate, residual, accumulate || undefined].filter((way) => way !== undefined).length > 1) {
    throw new TypeError(`${name}: only one of gate, residual and accumulate can say what becomes of C.`);
  }
}

/** Whether all rows start at multiples of 4 elements. */
function isAligned(...tensors: readonly Tensor[]): boolean {
  return tensors.every((tensor) => tensor.shape[1]! % 4 === 0);
}

/**
 * The kernel for outputs of at most m x n. A narrow or low output gets a block of its shape; rows that start at no
 * multiple of 4 elements are loaded one by one, for which one block serves all.
 */
function chooseTile<L extends Live>(
  policy: KernelPolicy,
  { layout, a, b, c, low_rank, bias, residual, gate }: Matmul<L>,
  m: number,
  n: number,
  readsC: boolean,
): Tile {
  const aligned = isAligned(a, b, c, ...low_rank ? [low_rank.u, low_rank.v] : []);
  const kernelOf = (source: string, block: string, constants: Constants) =>
    defineKernel({
      name: `matmul_${policy.matmul}_${layout}_${b.dtype}_${block}${aligned ? "" : "_unaligned"}${
        gate ? `_gated_${gate}` : residual ? "_residual" : readsC ? "_adds" : ""
      }${low_rank ? "_low_rank" : ""}${bias ? "_bias" : ""}`,
      source,
      preludes: [
        operandsSource,
        STORAGE[b.dtype],
        ...gate ? [chunksPrelude, ...gateShader(gate).preludes] : [],
      ],
      constants: {
        LAYOUT: LAYOUTS[layout],
        PARTS: low_rank ? 2 : 1,
        ALIGNED: Number(aligned),
        READS_C: Number(readsC),
        BIASED: Number(bias !== undefined),
        RESIDUAL: Number(residual !== undefined),
        GATED: Number(gate !== undefined),
        ...gate && gateShader(gate).constants,
        ...constants,
      },
    });
  if (policy.matmul === "tiled") {
    const shape = shapeClass(m, n);
    const name = !aligned ? "64x64" : policy.tiles[tileKey(layout, shape)] ?? CANDIDATES[shape][0]!;
    const tile = MATMUL_TILES[name];
    const kernel = kernelOf(tiledSource, name, { ...tile, WIDTH: 4 });
    return { kernel, rows: tile.TILE_M, columns: tile.TILE_N };
  }
  const rows = !aligned ? 16 : fitting(policy.matmul === "subgroup" ? [8, 16, 32] : [8, 16], m);
  const columns = !aligned ? 4 : fitting(policy.matmul === "direct" ? [1, 2, 4, 8, 16] : [1, 2, 4, 8], n / 8);
  const width = columns < 4 ? 1 : 4;
  const kernel = kernelOf(registersSource, `${rows}x${columns}`, {
    SHARED: Number(policy.matmul === "subgroup"),
    ROWS: rows,
    COLUMNS: columns / width,
    WIDTH: width,
  });
  return { kernel, rows, columns: kernel.workgroup[0] * columns };
}

/** The smallest of the rising sizes that holds `needed`, else the largest. */
function fitting(sizes: readonly number[], needed: number): number {
  return sizes.find((size) => size >= needed) ?? sizes.at(-1)!;
}
