import { join } from "node:path";
import type { Gpu } from "../src/gpu/mod.ts";
import { parseModelConfig } from "../src/model/config.ts";
import { type Decoder, loadDecoder, loraSpecs, withLora } from "../src/model/decoder.ts";
import { TrainedParameters } from "../src/model/parameters.ts";
import { Checkpoint, writeSafetensors } from "../src/model/safetensors.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { Random } from "../src/training/random.ts";
import { initialTensors } from "../tasks/example/model.ts";

/** Sizes of a random Llama. */
export interface Sizes {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly vocab_size: number;
}

/** The training step's model: 6.3 M parameters. */
export const SIZES: Sizes = {
  hidden_size: 256,
  intermediate_size: 704,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 4096,
};

/** A random decoder on the GPU, its base frozen, with or without a LoRA adapter to be trained. */
export interface BenchModel {
  readonly decoder: Decoder;
  readonly trained: TrainedParameters | null;
  /** Parameters that a token passes through, the head's included. */
  readonly parameters: number;
  free(): void;
}

export async function randomModel(gpu: Gpu, sizes: Sizes, lora: number | null): Promise<BenchModel> {
  const config = parseModelConfig({
    ...sizes,
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    max_position_embeddings: 4096,
    tie_word_embeddings: true,
  });
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  try {
    const path = join(folder, "model.safetensors");
    await writeSafetensors(path, initialTensors(config, 1));
    using checkpoint = await Checkpoint.openFile(path);
    const base = await loadDecoder(gpu, checkpoint, config, { trainable: false });
    const trained = lora === null
      ? null
      : new TrainedParameters(gpu, loraSpecs(config, { r: lora, target_modules: "all-linear" }));
    const parameters = checkpoint.names().reduce(
      (sum, name) => sum + checkpoint.info(name).shape.reduce((product, size) => product * size, 1),
      0,
    );
    return {
      decoder: trained ? withLora(base.decoder, (name) => trained.parameters.get(name), 2, 0) : base.decoder,
      trained,
      parameters,
      free: () => {
        trained?.free();
        base.free();
      },
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Groups of random tokens: `count` prompts, each with its responses. */
export function randomGroups(
  count: number,
  prompt: number,
  responses: readonly number[],
  vocabulary: number,
): EncodedGroup[] {
  const random = new Random(7);
  const tokens = (length: number) =>
    Uint32Array.from({ length }, () => Math.floor(random.next() * vocabulary));
  return Array.from({ length: count }, (_, row) => ({
    row,
    prompt: tokens(prompt),
    responses: responses.map((length) => ({ tokens: tokens(length), scored_from: 0, truncated: false })),
    prompt_truncated: 0,
  }));
}
