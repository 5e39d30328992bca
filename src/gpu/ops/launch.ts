import chunksPrelude from "../../../shaders/lib/chunks.wgsl" with { type: "text" };
import elementsPrelude from "../../../shaders/lib/elements.wgsl" with { type: "text" };
import rowsPrelude from "../../../shaders/lib/rows.wgsl" with { type: "text" };
import { defineKernel, type KernelDefinition } from "../kernel.ts";
import type { Launch } from "../launch.ts";
import type { Live, Program } from "../program.ts";
import type { Tensor, Tensors } from "../tensor.ts";
import type { Constants } from "../wgsl.ts";

/** How many of something are live. */
export type Count<L extends Live> = (live: L) => number;

/** What an operation along rows is told beside its tensors. */
export interface RowOptions<L extends Live> {
  /** Live leading rows. */
  readonly rows: Count<L>;
}

/** Records what it does to the live leading rows of its tensors. */
export type RowOperation<Bindings extends object, More = unknown> = <L extends Live>(
  program: Program<L>,
  tensors: Bindings,
  options: RowOptions<L> & More,
) => void;

/** What an operation on single elements is told beside its tensors. */
export interface ElementOptions<L extends Live> {
  /** Live leading elements. */
  readonly count: Count<L>;
}

type Params = Launch["params"];

/** Elements that an invocation of shaders/lib/elements.wgsl works on. */
const ELEMENTS = 4;

/** Records a kernel that reduces along rows, as many as `rows` of its parameters unless it is told otherwise. */
export function recordRows<L extends Live>(
  program: Program<L>,
  kernel: KernelDefinition,
  tensors: Tensors,
  { rows }: RowOptions<L>,
  params: Params,
): void {
  const lanes = program.policy.row_lanes;
  const constants = { LANES: lanes, ROWS: lanes === 1 ? 8 : 1 };
  program.dispatch(defineKernel(withPrelude(kernel, rowsPrelude, constants)), tensors, (live) => {
    const count = rows(live);
    return { params: { rows: count, ...params }, invocations: count * lanes };
  });
}

/** Records a kernel that works on so many elements, or chunks, one by one. */
export function recordElements<L extends Live>(
  program: Program<L>,
  kernel: KernelDefinition,
  tensors: Tensors,
  launch: (live: L) => { readonly elements: number; readonly params: Params },
): void {
  program.dispatch(defineKernel(withPrelude(kernel, elementsPrelude, { ELEMENTS })), tensors, (live) => {
    const { elements, params } = launch(live);
    return { params, invocations: Math.ceil(elements / ELEMENTS) };
  });
}

/** Records a kernel that works on the elements of matrix rows, whose parameters name both. */
export function recordMatrix<L extends Live>(
  program: Program<L>,
  kernel: KernelDefinition,
  tensors: Tensors,
  { rows, columns }: RowOptions<L> & { readonly columns: number },
  params: Params = {},
): void {
  recordElements(program, kernel, tensors, (live) => {
    const count = rows(live);
    return { params: { rows: count, columns, ...params }, elements: count * columns };
  });
}

function withPrelude(kernel: KernelDefinition, prelude: string, constants: Constants): KernelDefinition {
  return {
    ...kernel,
    preludes: [prelude, ...kernel.preludes ?? []],
    constants: { ...constants, ...kernel.constants },
  };
}

/** How many elements of a row chunks.wgsl may read at a time: 4 where the rows of all tensors are whole vec4. */
export function chunkWidth(...tensors: readonly Tensor[]): 1 | 4 {
  return tensors.every(({ shape }) => shape.at(-1)! % 4 === 0) ? 4 : 1;
}

/** The constants and the prelude of a kernel that reads chunks. */
export function chunked(
  width: 1 | 4,
): { readonly constants: Constants; readonly preludes: readonly string[] } {
  return { constants: { WIDTH: width }, preludes: [chunksPrelude] };
}
