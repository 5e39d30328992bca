/** What a family's decoder computes and what its files call the weights: all that tells the families apart. */
import type { RopeSettings } from "./rope.ts";

/** The linear layers of a block, in the order of its equations. */
export const LINEAR_LAYERS = [
  "q_proj",
  "k_proj",
  "v_proj",
  "o_proj",
  "gate_proj",
  "up_proj",
  "down_proj",
] as const;
/** What a linear layer does in its block; some families have the last two in place of q, k, v and of gate, up. */
export type LinearName = typeof LINEAR_LAYERS[number] | "qkv_proj" | "gate_up_proj";

/** What a norm does in its block: before attention and the mlp, of their outputs, of queries and keys. */
export type NormName =
  | "input_norm"
  | "mlp_norm"
  | "attention_output_norm"
  | "mlp_output_norm"
  | "q_norm"
  | "k_norm";

/** A linear layer of a block. */
export interface LinearPlan {
  /** Its module's name within the block. */
  readonly name: string;
  readonly bias: boolean;
  /** Whether files hold its weight as [inputs, outputs]. */
  readonly transposed: boolean;
}

/** Every block: x += attention(x), then x += mlp(x). */
export interface BlockPlan {
  /**
   * By their modules' names within the block; a norm that is not here is not computed. Trained parameters keep the order of
   * norms and linear layers, and a checkpoint of theirs has it.
   */
  readonly norms: Readonly<Partial<Record<NormName, string>>>;
  /** In the order of the equations. An mlp without gates is down(activation(up)). */
  readonly linears: Readonly<Partial<Record<LinearName, LinearPlan>>>;
  /** What q_norm and k_norm take the mean over: each head, or all of a projection. */
  readonly head_norms: "head" | "projection";
  /** Of the mlp's gate; without a gate gelu_tanh. */
  readonly activation: "silu" | "gelu_tanh";
  /** Queries times keys are multiplied by it. */
  readonly query_scale: number;
  /** Scores s become cap * tanh(s / cap). */
  readonly attention_softcap: number | null;
  /** What attention and the mlp give is multiplied by it; such linear layers have no bias. */
  readonly residual_scale: number;
}

/** What one block sees. */
export interface LayerPlan {
  /** Token i attends to j only where position_i - position_j is below this; null: no limit. */
  readonly window: number | null;
  /** Index in {@link DecoderPlan.ropes}; null: keys and queries are not rotated. */
  readonly rope: number | null;
}

/** An RMSNorm, whose weight counts as offset + weight, or a LayerNorm with bias. */
export type NormPlan = { readonly kind: "rms"; readonly offset: 0 | 1 } | { readonly kind: "layer" };

/** A decoder: x = embedding(ids), x = block(x) for each layer, logits = head(norm(x)). */
export interface DecoderPlan {
  /** What the files call weights, without `.weight` and `.bias`. */
  readonly names: {
    readonly embedding: string;
    /** Learned positions, which are added to the embedding; null where there are none. */
    readonly positions: string | null;
    /** What a block's number follows. */
    readonly blocks: string;
    /** The last norm. */
    readonly norm: string;
  };
  readonly norm: NormPlan;
  /** The embedding's rows are multiplied by it. */
  readonly embedding_scale: number;
  /** Logits are multiplied by it. */
  readonly logit_scale: number;
  /** As {@link BlockPlan.attention_softcap}, of logits. */
  readonly logit_softcap: number | null;
  readonly block: BlockPlan;
  /** One a block. */
  readonly layers: readonly LayerPlan[];
  readonly ropes: readonly RopeSettings[];
}
