import copySource from "../../../shaders/copy.wgsl" with { type: "text" };
import dropoutSource from "../../../shaders/dropout.wgsl" with { type: "text" };
import swigluSource from "../../../shaders/swiglu.wgsl" with { type: "text" };
import swigluGradSource from "../../../shaders/swiglu_grad.wgsl" with { type: "text" };
import type { Live, Program } from "../program.ts";
import type { Tensor } from "../tensor.ts";
import { elementKernel, elementWorkgroups } from "./launch.ts";

/** How many leading elements are live. */
type Count<L extends Live> = (live: L) => number;

/** y = x, in the leading elements. */
export function recordCopy<L extends Live>(program: Program<L>, x: Tensor, y: Tensor, count: Count<L>): void {
  program.dispatch(elementKernel("copy", copySource), { x, y }, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** y = silu(gate) * up. */
export function recordSwiglu<L extends Live>(
  program: Program<L>,
  tensors: { readonly gate: Tensor; readonly up: Tensor; readonly y: Tensor },
  count: Count<L>,
): void {
  program.dispatch(elementKernel("swiglu", swigluSource), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** Replaces gate and up by their gradients. */
export function recordSwigluGrad<L extends Live>(
  program: Program<L>,
  tensors: { readonly d_y: Tensor; readonly gate: Tensor; readonly up: Tensor },
  count: Count<L>,
): void {
  program.dispatch(elementKernel("swiglu_grad", swigluGradSource), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/**
 * y = dropout(x), or y += dropout(x). The mask depends on the live `dropout_seed`, the stream and the element's place
 * alone; with the seed 0 nothing is dropped.
 *
 * @param stream tells the layers apart
 */
export function recordDropout<L extends Live & { readonly dropout_seed: number }>(
  program: Program<L>,
  tensors: { readonly x: Tensor; readonly y: Tensor },
  settings: { readonly rate: number; readonly stream: number; readonly accumulate: boolean },
  count: Count<L>,
): void {
  const { rate, stream, accumulate } = settings;
  program.dispatch(elementKernel("dropout", dropoutSource), tensors, (live) => ({
    params: {
      count: count(live),
      seed: live.dropout_seed,
      stream,
      rate: live.dropout_seed === 0 ? 0 : rate,
      accumulate: accumulate ? 1 : 0,
    },
    workgroups: elementWorkgroups(count(live)),
  }));
}
