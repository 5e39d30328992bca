import type { Fields } from "../_fields.ts";
import type { ModelConfig } from "../config.ts";
import type { DecoderPlan } from "../plan.ts";

/** Sizes that a family's reader needs. */
export type Sizes = Pick<
  ModelConfig,
  "hidden_size" | "head_dim" | "num_hidden_layers" | "max_position_embeddings"
>;

/** A family of models: what its `config.json` says of the decoder. */
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
  plan(json: Fields, sizes: Sizes): DecoderPlan;
}

/** A model of text and images, of which the decoder of the text is computed. */
export interface Wrapper extends Pick<Family, "model_type" | "architecture"> {
  /** What `text_config` is read as. */
  readonly text: Family;
}
