import source from "../../../shaders/rope.wgsl" with { type: "text" };
import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import { chunked, recordElements } from "./launch.ts";

/**
 * Turns every head of `x` [tokens, heads * head_dim] in place by its token's position.
 *
 * @param tensors positions [tokens], rotations [positions, rotated dimensions of a head / 2, 2] (cos, sin)
 * @param options direction: 1 forward, -1 backward: the gradient of a rotation is the opposite rotation
 */
export function recordRope<L extends Live & { readonly tokens: number }>(
  program: Program<L>,
  tensors: Tensors<"x" | "positions" | "rotations">,
  { head_dim, direction }: { readonly head_dim: number; readonly direction: 1 | -1 },
): void {
  const half = tensors.rotations.shape[1]!;
  const heads = tensors.x.shape[1]! / head_dim;
  const width = half % 4 === 0 && head_dim % 4 === 0 ? 4 : 1;
  recordElements(program, { name: "rope", source, ...chunked(width) }, tensors, ({ tokens }) => ({
    params: { tokens, heads, head_chunks: head_dim / width, half_chunks: half / width, direction },
    elements: tokens * heads * half / width,
  }));
}

/**
 * (cos, sin) of position * frequency for positions 0 .. positions - 1, with the angle in f32 as transformers has it.
 *
 * @param factor multiplies both (YaRN's attention factor)
 */
export function ropeRotations(frequencies: Float32Array, positions: number, factor = 1): Float32Array {
  const table = new Float32Array(positions * frequencies.length * 2);
  let at = 0;
  for (let position = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      const angle = Math.fround(position * frequency);
      table[at++] = factor * Math.cos(angle);
      table[at++] = factor * Math.sin(angle);
    }
  }
  return table;
}
