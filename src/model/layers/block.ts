import type { Tensor, Tensors } from "../../gpu/mod.ts";
import type { Block } from "../decoder.ts";
import { Attention, type KeyValues } from "./attention.ts";
import type { BlockContext } from "./context.ts";
import { Mlp } from "./mlp.ts";
import type { Recording } from "./recording.ts";

/**
 * The stream on its way through a block, [tokens, hidden] each, with the middle between attention and mlp; one tensor where
 * nothing is kept.
 */
type BlockStream = Tensors<"x" | "middle" | "y">;

/** middle = attention(x), y = mlp(middle) */
export class BlockLayer {
  readonly #attention: Attention;
  readonly #mlp: Mlp;

  constructor(context: BlockContext, weights: Block, private readonly stream: BlockStream) {
    this.#attention = new Attention(context, weights);
    this.#mlp = new Mlp(context, weights);
  }

  /** @param stored as {@link Attention.forward} has it */
  forward(recording: Recording, stored?: KeyValues): void {
    const { x, middle, y } = this.stream;
    this.#attention.forward(recording, x, middle, stored);
    this.#mlp.forward(recording, middle, y);
  }

  /** Makes again what the backward needs of the forward, from the block's input. */
  recompute(recording: Recording): void {
    const { x, middle } = this.stream;
    this.#attention.forward(recording, x, middle);
    this.#mlp.forward(recording, middle, null);
  }

  /** Turns `d_stream` from the gradient of y into that of x. @param wanted whether anything below asks for it */
  backward(recording: Recording, d_stream: Tensor, wanted: boolean): void {
    const { x, middle } = this.stream;
    this.#mlp.backward(recording, middle, d_stream);
    this.#attention.backward(recording, x, d_stream, wanted);
  }
}
