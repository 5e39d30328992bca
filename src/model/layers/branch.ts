/** The two ends that attention and the mlp share: x += norm(f(norm(x) W_in^T) W_out^T), where either norm may be missing. */
import type { Tensor } from "../../gpu/mod.ts";
import { recordCopyColumns } from "../../gpu/ops/columns.ts";
import { recordAdd, recordCopy } from "../../gpu/ops/elementwise.ts";
import { type BatchCounts, tokensOf } from "../batch.ts";
import type { Block } from "../decoder.ts";
import { joinedWidth } from "../modules.ts";
import type { LinearName, NormName } from "../plan.ts";
import type { BlockContext } from "./context.ts";
import { LinearLayer, type LinearOutput, withColumns } from "./linear.ts";
import { NormLayer } from "./norm.ts";
import type { Recording } from "./recording.ts";

/** y_i = norm(x) W_i^T for each projection of a branch, by one matrix where the family has joined them. */
export class BranchInput {
  readonly #norm: NormLayer | null;
  readonly #linears: readonly LinearLayer[];
  /** [tokens, hidden]: norm(x), which the next norm overwrites. */
  readonly #normed: Tensor;
  readonly #d_normed: Tensor | null;
  /** [tokens, outputs]: of the joint matrix, before they are taken apart. */
  readonly #joined: Tensor | null;

  /** @param projections those of them that the block has, in whose place it may have the joint one */
  constructor(
    context: BlockContext,
    { linears, norms }: Block,
    norm: NormName,
    projections: readonly LinearName[],
    joint: LinearName,
  ) {
    const { config, budget: { tokens }, scratch, train } = context;
    const names = linears[joint] ? [joint] : projections.filter((name) => linears[name]);
    this.#norm = NormLayer.of(context, norms[norm], norm);
    this.#linears = names.map((name) => new LinearLayer(context, linears[name]!, name));
    this.#normed = scratch.f32("scratch.normed", tokens, config.hidden_size);
    this.#d_normed = train ? scratch.f32("gradients.normed", tokens, config.hidden_size) : null;
    this.#joined = linears[joint]
      ? withColumns(scratch.f32("scratch.joined", tokens, joinedWidth(config)), this.#linears[0]!.outputs)
      : null;
  }

  forward(recording: Recording, x: Tensor, outputs: readonly LinearOutput[]): void {
    const normed = this.#forwardNorm(recording, x);
    const own = this.#joined ? [{ y: this.#joined }] : outputs;
    this.#linears.forEach((linear, i) => linear.forward(recording, normed, own[i]!));
    this.#copyJoined(recording, outputs.map(({ y }) => y), "out");
  }

  /**
   * d_x += the gradient; adds to those of the weights.
   *
   * @param d_outputs as {@link forward} has `outputs`
   * @param wanted whether anything below asks for d_x, which holds nothing afterwards otherwise
   */
  backward(recording: Recording, x: Tensor, d_outputs: readonly Tensor[], d_x: Tensor, wanted = true): void {
    const norm = this.#norm;
    const normed = this.#forwardNorm(recording, x);
    const d_normed = !wanted && !norm?.isTrained ? null : norm ? this.#d_normed! : d_x;
    this.#copyJoined(recording, d_outputs, "in");
    const own = this.#joined ? [this.#joined] : d_outputs;
    this.#linears.forEach((linear, i) =>
      linear.backward(recording, normed, own[i]!, d_normed, i > 0 || !norm)
    );
    if (norm && d_normed) norm.backward(recording, x, d_normed, d_x);
  }

  /** Takes what is joined apart, or puts it together. */
  #copyJoined({ program }: Recording, tensors: readonly Tensor[], way: "in" | "out"): void {
    if (!this.#joined) return;
    let first = 0;
    for (const tensor of tensors) {
      const shared = { columns: tensor.shape[1]!, rows: tokensOf };
      if (way === "in") {
        recordCopyColumns(program, { x: tensor, y: this.#joined }, { ...shared, y_first: first });
      } else recordCopyColumns(program, { x: this.#joined, y: tensor }, { ...shared, x_first: first });
      first += tensor.shape[1]!;
    }
  }

  #forwardNorm(recording: Recording, x: Tensor): Tensor {
    if (!this.#norm) return x;
    this.#norm.forward(recording, x, this.#normed);
    return this.#normed;
  }
}

/** y = residual + norm(residual_scale * x W^T) */
export class BranchOutput {
  readonly #linear: LinearLayer;
  readonly #norm: NormLayer | null;
  /** [tokens, hidden]: x W^T, where it is normed. */
  readonly #output: Tensor | null;
  readonly #d_output: Tensor | null;
  /** [tokens, hidden] */
  readonly #normed: Tensor;

  constructor(context: BlockContext, { linears, norms }: Block, linear: LinearName, norm: NormName) {
    const { config, budget: { tokens }, scratch, kept, train } = context;
    this.#linear = new LinearLayer(context, linears[linear]!, linear, config.plan.block.residual_scale);
    this.#norm = NormLayer.of(context, norms[norm], norm);
    this.#output = this.#norm && kept.f32(norm, tokens, config.hidden_size);
    this.#d_output = this.#norm && train ? scratch.f32("gradients.branch", tokens, config.hidden_size) : null;
    this.#normed = scratch.f32("scratch.normed", tokens, config.hidden_size);
  }

  /** Whether the backward needs what the forward makes here. */
  get isNormed(): boolean {
    return this.#norm !== null;
  }

  /** @param y null: only what the backward needs is made */
  forward(recording: Recording, x: Tensor, residual: Tensor, y: Tensor | null): void {
    const [norm, output] = [this.#norm, this.#output];
    if (!norm || !output) {
      if (y) this.#linear.forward(recording, x, { y, residual });
      return;
    }
    this.#linear.forward(recording, x, { y: output });
    norm.forward(recording, output, this.#normed);
    if (!y) return;
    const count = ({ tokens }: BatchCounts) => tokens * y.shape[1]!;
    if (y !== residual) recordCopy(recording.program, { x: residual, y }, { count });
    recordAdd(recording.program, { x: this.#normed, y }, { count });
  }

  /**
   * d_x = the gradient. The weight's follows by {@link backwardWeight}.
   *
   * @returns the gradient of x W^T
   */
  backwardInput(recording: Recording, d_y: Tensor, d_x: Tensor): Tensor {
    const d_output = this.#d_output ?? d_y;
    if (this.#norm) {
      recording.program.clear(d_output);
      this.#norm.backward(recording, this.#output!, d_y, d_output);
    }
    this.#linear.backwardInput(recording, d_output, d_x, false);
    return d_output;
  }

  /** @param d_output as {@link backwardInput} returns it */
  backwardWeight(recording: Recording, x: Tensor, d_output: Tensor): void {
    this.#linear.backwardWeight(recording, x, d_output);
  }
}
