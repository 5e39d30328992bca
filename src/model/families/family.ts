/** What tells the families apart; the decoder is one. */
import type { Fields } from "../_fields.ts";
import type { RopeSettings } from "../rope.ts";

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
export type LinearLayer = typeof LINEAR_LAYERS[number] | "qkv_proj" | "gate_up_proj";

/** What one block sees. */
export interface LayerTraits {
  /** Token i attends to j only where position_i - position_j is below this; null: no limit. */
  readonly window: number | null;
  /** Index in {@link Traits.ropes}. */
  readonly rope: number;
}

/** What the files call weights, without `.weight` and `.bias`. */
export interface Names {
  readonly embedding: string;
  /** Learned positions, which are added to the embedding; null where keys and queries are rotated instead. */
  readonly positions: string | null;
  /** What a block's number follows. */
  readonly blocks: string;
  /** The last norm. */
  readonly norm: string;
  /** Before attention, as the following within its block. */
  readonly input_norm: string;
  /** Before the mlp. */
  readonly mlp_norm: string;
  readonly linears: Readonly<Partial<Record<LinearLayer, string>>>;
}

/** What tells the families apart; the decoder is one. */
export interface Traits {
  readonly names: Names;
  /** Of the gate in the mlp; without a gate gelu_tanh. */
  readonly activation: "silu" | "gelu_tanh";
  /** Whether the mlp has a gate: down(activation(gate) * up), otherwise down(activation(up)). */
  readonly gated_mlp: boolean;
  /** Whether norms are LayerNorms with bias, not RMSNorms. */
  readonly layer_norm: boolean;
  /** Norms multiply by this + weight. */
  readonly norm_offset: 0 | 1;
  /** The embedding's rows are multiplied by it. */
  readonly embedding_scale: number;
  /** Queries times keys are multiplied by it. */
  readonly query_scale: number;
  /** Scores s become cap * tanh(s / cap). */
  readonly attention_softcap: number | null;
  /** The same of logits. */
  readonly logit_softcap: number | null;
  /** Which projections have a bias. */
  readonly biases: "none" | "qkv" | "all";
  /** Whether each head's queries and keys are normed before they are rotated. */
  readonly qk_norm: boolean;
  /** Whether attention's and the mlp's outputs are normed too before they join the stream. */
  readonly sandwich_norms: boolean;
  /** Whether q, k, v are one matrix `qkv_proj`, and gate and up one `gate_up_proj` where there is a gate. */
  readonly fused_projections: boolean;
  /** Whether files hold the projections as [inputs, outputs]. */
  readonly transposed_files: boolean;
  /** None where positions are learned. */
  readonly ropes: readonly RopeSettings[];
  /** One a block. */
  readonly layers: readonly LayerTraits[];
}

/** Sizes that a family's reader needs. */
export interface Sizes {
  readonly hidden_size: number;
  readonly head_dim: number;
  readonly num_hidden_layers: number;
  readonly max_position_embeddings: number;
}

/** A family of models: what its `config.json` says of the traits. */
export interface Family {
  /** `model_type` in the file. */
  readonly model_type: string;
  /** The class that its checkpoints name. */
  readonly architecture: string;
  /** The file's names of fields that it calls otherwise than Llama's does. */
  readonly fields?: Readonly<Record<string, string>>;
  /** What the class of transformers 5.23 says where the file leaves a field out; sizes of the model are not guessed. */
  readonly defaults: Fields;
  /** The same of the sizes, which the text_config of a {@link Wrapper} may leave out. */
  readonly nested_defaults?: Fields;
  /** intermediate_size / hidden_size where the file says nothing of it. */
  readonly intermediate_per_hidden?: number;
  /** @throws InputError for an option that the decoder would compute wrongly */
  traits(json: Fields, sizes: Sizes): Traits;
}

/** A model of text and images, of which the decoder of the text is computed. */
export interface Wrapper extends Pick<Family, "model_type" | "architecture"> {
  /** What `text_config` is read as. */
  readonly text: Family;
}
