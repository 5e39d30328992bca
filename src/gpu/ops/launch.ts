import chunksPrelude from "../../../shaders/chunks.wgsl" with { type: "text" };
import rowsPrelude from "../../../shaders/rows.wgsl" with { type: "text" };
import elementsPrelude from "../../../shaders/elements.wgsl" with { type: "text" };
import type { Gpu } from "../device.ts";
import { defineKernel, type Kernel } from "../kernel.ts";
import { fold } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import type { Constants } from "../wgsl.ts";

/** Invocations that share a row and rows a workgroup, as shaders/rows.wgsl wants them for this device. */
function rowLayout(gpu: Gpu): { LANES: number; ROWS: number } {
  return { LANES: gpu.rowLanes, ROWS: gpu.rowLanes === 1 ? 8 : 1 };
}

/** A kernel that reduces along rows. */
export function rowKernel(
  gpu: Gpu,
  name: string,
  source: string,
  constants: Constants = {},
  preludes: readonly string[] = [],
): Kernel {
  return defineKernel({
    name,
    source,
    preludes: [rowsPrelude, ...preludes],
    constants: { ...rowLayout(gpu), ...constants },
  });
}

/** Workgroups of a {@link rowKernel} over `rows`. */
export function rowWorkgroups(gpu: Gpu, rows: number): [number, number, number] {
  return fold(Math.ceil(rows / rowLayout(gpu).ROWS));
}

/** A kernel that works element by element. */
export function elementKernel(
  name: string,
  source: string,
  preludes: readonly string[] = [],
  constants: Constants = {},
): Kernel {
  return defineKernel({ name, source, preludes: [elementsPrelude, ...preludes], constants });
}

/** How many elements of a row chunks.wgsl may read at a time: 4 where the rows of all tensors are whole vec4. */
export function chunkWidth(...tensors: readonly Tensor[]): 1 | 4 {
  return tensors.every(({ shape }) => shape.at(-1)! % 4 === 0) ? 4 : 1;
}

/** The constants and the prelude of a kernel that reads chunks. */
export function chunked(width: 1 | 4): { readonly constants: Constants; readonly prelude: string } {
  return { constants: { WIDTH: width }, prelude: chunksPrelude };
}

/** Workgroups of an {@link elementKernel} over `count` elements or chunks. */
export function elementWorkgroups(count: number): [number, number, number] {
  return fold(Math.ceil(count / 256));
}
