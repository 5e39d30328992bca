import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { checkMatmul } from "./_matmul_check.ts";
import { type Activation, recordCopy } from "./elementwise.ts";
import { PANELS, recordPacking } from "./matmul_panels.ts";
import { addsResidual, MAX_K, planMatmul, sumsLowRank } from "./matmul_plan.ts";
import { PARTIAL_SUMS, recordSplitSums } from "./matmul_splits.ts";
import type { MatmulLayout } from "./matmul_tiles.ts";

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

/** Most that products put aside, all programs together. */
export const MATMUL_SCRATCH_BYTES = 4 * (PANELS + PARTIAL_SUMS);

/** A product with all that it is told. */
export interface Product<L extends Live> extends MatmulTensors, MatmulOptions<L> {}

/**
 * Records a matrix product with the program's matmul design. Accumulation is f32; rows and columns of C outside the live
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
  const whole: Product<L> = { ...tensors, ...options };
  checkMatmul(whole);
  const { residual, low_rank, bias, ...plain } = whole;
  const { size, c } = plain;
  const copied = residual && !addsResidual(whole);
  if (copied) {
    recordCopy(program, { x: residual, y: c }, { count: (live) => size(live).m * c.shape[1]! });
  }
  const apart = low_rank && !sumsLowRank(whole) ? low_rank : null;
  recordProduct(program, {
    ...plain,
    ...(copied && { accumulate: true }),
    ...(bias && { bias }),
    ...(residual && !copied && { residual }),
    ...(low_rank && !apart && { low_rank }),
  });
  if (!apart) return;
  const { u, v } = apart;
  const steps = (live: L) => ({ m: size(live).m, k: u.shape[1]! });
  recordProduct(program, { ...plain, a: u, b: v, size: steps, accumulate: true });
}

/** Records the dispatches of a product: parts of a sum too long for one, and slabs of columns where B is copied. */
function recordProduct<L extends Live>(program: Program<L>, product: Product<L>): void {
  const { layout, a, b, c, low_rank, bias, residual, size, alpha = 1, accumulate = false } = product;
  const plan = planMatmul(program.policy, product);
  const { most, n, kernel, rows, columns, k_split } = plan;
  const partials = k_split < Math.min(most.k, MAX_K) ? program.scratch("partial_sums", PARTIAL_SUMS) : null;
  const panels = plan.slab > 0 ? program.scratch("panels", PANELS) : null;
  const epilogue = { ...low_rank, ...(bias && { bias }), ...(residual && { residual }) };
  const tensors = { a, b: panels ?? b, c: partials ?? c, ...epilogue };
  const rank = low_rank?.u.shape[1] ?? 0;
  const sizeOf = (live: L) => {
    const { m, k } = size(live);
    if (m <= most.m && n <= most.n && k <= most.k) return { m, k };
    throw new RangeError(
      `matmul ${layout} of ${a.name} and ${b.name}: ${m} x ${n} x ${k} passes ${most.m} x ${most.n} x ${most.k}.`,
    );
  };
  const fixed = {
    a_stride: a.shape[1]!,
    b_stride: panels ? columns : b.shape[1]!,
    c_stride: partials ? n : c.shape[1]!,
    k_split: Math.max(k_split, rank),
    alpha: partials ? 1 : alpha,
    u_stride: rank,
    v_stride: low_rank?.v.shape[1] ?? 0,
  };
  const slab = plan.slab || n;
  for (let k_begin = 0; k_begin === 0 || k_begin < most.k; k_begin += MAX_K) {
    const adds = accumulate || k_begin > 0;
    const sharesOf = (k: number) => Math.ceil(Math.min(Math.max(0, k - k_begin), MAX_K) / k_split);
    for (let n_begin = 0; n_begin === 0 || n_begin < n; n_begin += slab) {
      const last = Math.min(n, n_begin + slab);
      if (panels) recordPacking(program, { b, panels }, { size, columns, first: n_begin, last });
      program.dispatch(kernel, tensors, (live) => {
        const { m, k } = sizeOf(live);
        const params = {
          ...fixed,
          m,
          n_begin,
          n: last,
          k_begin,
          k_end: Math.min(k, k_begin + MAX_K),
          b_panel: panels ? k * columns : columns,
          rank: k_begin === 0 ? rank : 0,
          accumulate: Number((adds || residual !== undefined) && !partials),
        };
        const empty = k_begin === 0 && (!accumulate || rank > 0) && !partials; // is stored all the same
        const shares = Math.max(sharesOf(k), Number(empty));
        return { params, workgroups: [Math.ceil(m / rows), Math.ceil((last - n_begin) / columns), shares] };
      });
    }
    if (!partials) continue;
    recordSplitSums(program, { partials, c }, (live) => {
      const { m, k } = size(live);
      return { m, n, splits: sharesOf(k), alpha, accumulate: adds };
    });
  }
}
