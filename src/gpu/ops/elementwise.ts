import activationSource from "../../../shaders/activation.wgsl" with { type: "text" };
import activationGradSource from "../../../shaders/activation_grad.wgsl" with { type: "text" };
import activatedPrelude from "../../../shaders/lib/activated.wgsl" with { type: "text" };
import addSource from "../../../shaders/add.wgsl" with { type: "text" };
import copySource from "../../../shaders/copy.wgsl" with { type: "text" };
import dropoutSource from "../../../shaders/dropout.wgsl" with { type: "text" };
import gatedSource from "../../../shaders/gated_activation.wgsl" with { type: "text" };
import gatedGradSource from "../../../shaders/gated_activation_grad.wgsl" with { type: "text" };
import geluPrelude from "../../../shaders/lib/gelu.wgsl" with { type: "text" };
import type { Live, Program } from "../program.ts";
import type { Tensors } from "../tensor.ts";
import { chunked, chunkWidth, type Count, type ElementOptions, recordElements } from "./launch.ts";

/** Records what it does to the live leading elements of its tensors, which are a whole number of rows. */
type Elementwise<Name extends string, More = unknown> = <L extends Live>(
  program: Program<L>,
  tensors: Tensors<Name>,
  options: ElementOptions<L> & More,
) => void;

/** As {@link Elementwise}, with what gates them. */
type Gated<Name extends string> = Elementwise<Name, { readonly activation: Activation }>;

/** y = x. */
export const recordCopy: Elementwise<"x" | "y"> = (program, tensors, { count }) =>
  recordChunks(program, "copy", copySource, tensors, count);

/** y += x. */
export const recordAdd: Elementwise<"x" | "y"> = (program, tensors, { count }) =>
  recordChunks(program, "add", addSource, tensors, count);

/** silu(x) = x sigmoid(x); gelu_tanh(x) = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))). */
export type Activation = "silu" | "gelu_tanh";

/** What a kernel needs beside chunks.wgsl for activated(). */
export function gateShader(activation: Activation): {
  readonly preludes: readonly string[];
  readonly constants: { readonly GELU: number };
} {
  return {
    preludes: [geluPrelude, activatedPrelude],
    constants: { GELU: Number(activation === "gelu_tanh") },
  };
}

/** y = gelu_tanh(x). */
export const recordGelu: Elementwise<"x" | "y"> = (program, tensors, { count }) =>
  recordChunks(program, "gelu_tanh", activationSource, tensors, count, "gelu_tanh");

/** Replaces x by its gradient, and makes y again. */
export const recordGeluGrad: Elementwise<"d_y" | "x" | "y"> = (program, tensors, { count }) =>
  recordChunks(program, "gelu_tanh_grad", activationGradSource, tensors, count, "gelu_tanh");

/** y = activation(gate) * up. */
export const recordGatedActivation: Gated<"gate" | "up" | "y"> = (program, tensors, { activation, count }) =>
  recordChunks(program, `gated_${activation}`, gatedSource, tensors, count, activation);

/** Replaces gate and up by their gradients, and makes y again: one pass loads what both need. */
export const recordGatedActivationGrad: Gated<"d_y" | "gate" | "up" | "y"> = (
  program,
  tensors,
  { activation, count },
) => recordChunks(program, `gated_${activation}_grad`, gatedGradSource, tensors, count, activation);

/** Records a kernel whose tensors are all walked side by side; `count` is a whole number of rows. */
function recordChunks<L extends Live>(
  program: Program<L>,
  name: string,
  source: string,
  tensors: Tensors,
  count: Count<L>,
  activation?: Activation,
): void {
  const width = chunkWidth(...Object.values(tensors));
  const chunks = chunked(width);
  const gate = activation && gateShader(activation);
  const preludes = [...chunks.preludes, ...gate?.preludes ?? []];
  const kernel = { name, source, preludes, constants: { ...chunks.constants, ...gate?.constants } };
  recordElements(program, kernel, tensors, (live) => ({
    params: { count: count(live) / width },
    elements: count(live) / width,
  }));
}

/** Which elements are dropped. */
export interface DropoutOptions<L extends Live> extends ElementOptions<L> {
  readonly rate: number;
  /** Tells the layers apart. */
  readonly stream: number;
  /** Adds to y. */
  readonly accumulate: boolean;
}

/**
 * y = dropout(x), or y += dropout(x). The mask depends on the live `dropout_seed`, the stream and the element's place
 * alone; with the seed 0 nothing is dropped.
 */
export function recordDropout<L extends Live & { readonly dropout_seed: number }>(
  program: Program<L>,
  tensors: Tensors<"x" | "y">,
  { rate, stream, accumulate, count }: DropoutOptions<L>,
): void {
  recordElements(program, { name: "dropout", source: dropoutSource }, tensors, (live) => ({
    params: {
      count: count(live),
      seed: live.dropout_seed,
      stream,
      rate: live.dropout_seed === 0 ? 0 : rate,
      accumulate: accumulate ? 1 : 0,
    },
    elements: count(live),
  }));
}
