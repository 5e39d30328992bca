import type { Tensor } from "../../gpu/mod.ts";
import {
  type Activation,
  recordGatedActivation,
  recordGatedActivationGrad,
  recordGelu,
  recordGeluGrad,
} from "../../gpu/ops/elementwise.ts";
import type { BatchCounts } from "../batch.ts";
import type { Block } from "../decoder.ts";
import { BranchInput, BranchOutput } from "./branch.ts";
import type { BlockContext } from "./context.ts";
import type { Recording } from "./recording.ts";

/** y = x + norm((activation(gate) * up) W_down^T), where gate, up = norm(x) W^T; without a gate activation(up) W_down^T. */
export class Mlp {
  readonly #input: BranchInput;
  readonly #output: BranchOutput;
  readonly #activation: Activation;
  /** [tokens, intermediate]; null where there is none. */
  readonly #gate: Tensor | null;
  /** [tokens, intermediate] */
  readonly #up: Tensor;
  /** [tokens, intermediate]: activation(gate) * up. The tensor of all three where no backward wants them apart. */
  readonly #product: Tensor;
  readonly #d_product: Tensor | null;
  readonly #count: (counts: BatchCounts) => number;

  constructor(context: BlockContext, weights: Block) {
    const { config, budget: { tokens }, kept, scratch, train } = context;
    const { intermediate_size: wide, plan } = config;
    const { gate_proj, gate_up_proj } = weights.linears;
    this.#input = new BranchInput(context, weights, "mlp_norm", ["gate_proj", "up_proj"], "gate_up_proj");
    this.#output = new BranchOutput(context, weights, "down_proj", "mlp_output_norm");
    this.#activation = plan.block.activation;
    this.#gate = gate_proj || gate_up_proj ? kept.f32("gate", tokens, wide) : null;
    const inPlace = !train && gate_proj ? this.#gate : null;
    this.#up = inPlace ?? kept.f32("up", tokens, wide);
    this.#product = inPlace ?? scratch.f32("scratch.gated", tokens, wide);
    this.#d_product = train ? scratch.f32("gradients.gated", tokens, wide) : null;
    this.#count = ({ tokens }) => tokens * wide;
  }

  /** @param y null: only what the backward needs is made */
  forward(recording: Recording, x: Tensor, y: Tensor | null): void {
    const [gate, up, product] = [this.#gate, this.#up, this.#product];
    const gating = up === product ? { gate: this.#activation } : {};
    this.#input.forward(recording, x, [...gate ? [{ y: gate }] : [], { y: up, ...gating }]);
    if (!y && !this.#output.isNormed) return;
    if (up !== product) this.#recordActivation(recording);
    this.#output.forward(recording, product, x, y);
  }

  /** Turns `d_stream` from the gradient of y into that of x. */
  backward(recording: Recording, x: Tensor, d_stream: Tensor): void {
    const [gate, up] = [this.#gate, this.#up];
    const d_output = this.#output.backwardInput(recording, d_stream, this.#d_product!);
    this.#recordActivationGrad(recording, this.#d_product!);
    this.#output.backwardWeight(recording, this.#product, d_output);
    this.#input.backward(recording, x, gate ? [gate, up] : [up], d_stream);
  }

  #recordActivation({ program }: Recording): void {
    const [gate, up, y] = [this.#gate, this.#up, this.#product];
    const options = { activation: this.#activation, count: this.#count };
    if (gate) recordGatedActivation(program, { gate, up, y }, options);
    else recordGelu(program, { x: up, y }, options);
  }

  /** Replaces gate and up by their gradients, and makes the product again. */
  #recordActivationGrad({ program }: Recording, d_y: Tensor): void {
    const [gate, up, y] = [this.#gate, this.#up, this.#product];
    const options = { activation: this.#activation, count: this.#count };
    if (gate) recordGatedActivationGrad(program, { d_y, gate, up, y }, options);
    else recordGeluGrad(program, { d_y, x: up, y }, options);
  }
}
