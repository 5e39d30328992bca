import activationSource from "../../../shaders/activation.wgsl" with { type: "text" };
import activationGradSource from "../../../shaders/activation_grad.wgsl" with { type: "text" };
import addSource from "../../../shaders/add.wgsl" with { type: "text" };
import copySource from "../../../shaders/copy.wgsl" with { type: "text" };
import dropoutSource from "../../../shaders/dropout.wgsl" with { type: "text" };
import gatedSource from "../../../shaders/gated_activation.wgsl" with { type: "text" };
import gatedGradSource from "../../../shaders/gated_activation_grad.wgsl" with { type: "text" };
import geluPrelude from "../../../shaders/gelu.wgsl" with { type: "text" };
import type { Kernel } from "../kernel.ts";
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

/** y += x, in the leading elements. */
export function recordAdd<L extends Live>(program: Program<L>, x: Tensor, y: Tensor, count: Count<L>): void {
  program.dispatch(elementKernel("add", addSource), { x, y }, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** silu(x) = x sigmoid(x); gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
export type Activation = "silu" | "gelu_tanh";

/** y = activation(x). */
export function recordActivation<L extends Live>(
  program: Program<L>,
  _activation: "gelu_tanh",
  tensors: { readonly x: Tensor; readonly y: Tensor },
  count: Count<L>,
): void {
  program.dispatch(elementKernel("gelu_tanh", activationSource, [geluPrelude]), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** Replaces x by its gradient. */
export function recordActivationGrad<L extends Live>(
  program: Program<L>,
  _activation: "gelu_tanh",
  tensors: { readonly d_y: Tensor; readonly x: Tensor },
  count: Count<L>,
): void {
  program.dispatch(elementKernel("gelu_tanh_grad", activationGradSource, [geluPrelude]), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** y = activation(gate) * up. */
export function recordGatedActivation<L extends Live>(
  program: Program<L>,
  activation: Activation,
  tensors: { readonly gate: Tensor; readonly up: Tensor; readonly y: Tensor },
  count: Count<L>,
): void {
  program.dispatch(gatedKernel(`gated_${activation}`, gatedSource, activation), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

/** Replaces gate and up by their gradients. */
export function recordGatedActivationGrad<L extends Live>(
  program: Program<L>,
  activation: Activation,
  tensors: { readonly d_y: Tensor; readonly gate: Tensor; readonly up: Tensor },
  count: Count<L>,
): void {
  program.dispatch(gatedKernel(`gated_${activation}_grad`, gatedGradSource, activation), tensors, (live) => ({
    params: { count: count(live) },
    workgroups: elementWorkgroups(count(live)),
  }));
}

function gatedKernel(name: string, source: string, activation: Activation): Kernel {
  return elementKernel(name, source, [geluPrelude], { GELU: activation === "gelu_tanh" ? 1 : 0 });
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
