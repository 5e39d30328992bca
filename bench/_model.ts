import { join } from "node:path";
import type { Gpu } from "../src/gpu/mod.ts";
import { type ModelConfig, parseModelConfig } from "../src/model/config.ts";
import { type Decoder, loraSpecs, withLora } from "../src/model/decoder.ts";
import { loadDecoder } from "../src/model/loading.ts";
import { weightSpecs } from "../src/model/modules.ts";
import { TrainedParameters } from "../src/model/parameters.ts";
import { WeightFiles } from "../src/model/safetensors.ts";
import { writeSafetensors } from "../src/model/safetensors_writer.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { Random } from "../src/training/random.ts";

/** Sizes of a random Llama. */
export interface Sizes {
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  readonly num_key_value_heads: number;
  readonly vocab_size: number;
}

/** A model that two CPU cores can train: 5.5 M parameters. */
export const SIZES: Sizes = {
  hidden_size: 256,
  intermediate_size: 704,
  num_hidden_layers: 6,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  vocab_size: 4096,
};

/** What of a model is trained: nothing, a LoRA adapter on every linear layer, or all weights. */
export type Trained = "nothing" | { readonly lora: number } | "weights";

/** A random decoder on the GPU. */
export interface BenchModel {
  readonly config: ModelConfig;
  readonly decoder: Decoder;
  readonly what: Trained;
  readonly trained: TrainedParameters | null;
  /** Parameters that a token passes through, the head's included. */
  readonly parameters: number;
  free(): void;
}

export function configOf(sizes: Sizes): ModelConfig {
  return parseModelConfig({
    ...sizes,
    model_type: "llama",
    architectures: ["LlamaForCausalLM"],
    hidden_act: "silu",
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    max_position_embeddings: 32_768,
    tie_word_embeddings: true,
  });
}

/** A model's weights as a file. */
export async function writeRandomWeights(path: string, config: ModelConfig): Promise<void> {
  const tensors = weightSpecs(config).map(({ name, shape }) => ({ name, shape, data: values(shape) }));
  await writeSafetensors(path, tensors.map((tensor) => ({ ...tensor, dtype: "F32" })));
}

export async function randomModel(gpu: Gpu, sizes: Sizes, what: Trained): Promise<BenchModel> {
  const config = configOf(sizes);
  const specs = weightSpecs(config);
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  try {
    const path = join(folder, "model.safetensors");
    await writeRandomWeights(path, config);
    using checkpoint = await WeightFiles.openFile(path);
    const base = await loadDecoder(gpu, checkpoint, config, { trainable: what === "weights" });
    const adapter = typeof what === "string"
      ? null
      : new TrainedParameters(gpu, loraSpecs(config, { r: what.lora, target_modules: "all-linear" }));
    return {
      config,
      decoder: adapter ? withLora(base.decoder, (name) => adapter.parameters.get(name), 2, 0) : base.decoder,
      what,
      trained: base.trained ?? adapter,
      parameters: specs.reduce((sum, { shape }) => sum + elements(shape), 0),
      free: () => {
        adapter?.free();
        base.free();
      },
    };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const NOISE = normal(2 ** 18, 0.05);
const ONES = new Uint8Array(new Float32Array(2 ** 18).fill(1).buffer);

/** f32 noise for a matrix, ones for a norm's weight, a mebibyte at a time. */
async function* values(shape: readonly number[]): AsyncGenerator<Uint8Array> {
  const chunk = shape.length === 1 ? ONES : NOISE;
  for (let left = 4 * elements(shape); left > 0; left -= chunk.length) {
    yield chunk.subarray(0, Math.min(left, chunk.length));
  }
}

function normal(count: number, deviation: number): Uint8Array {
  const random = new Random(1);
  // the sum of 12 uniform numbers is close to normal, with a deviation of 1
  const one = () => Array.from({ length: 12 }, () => random.next()).reduce((sum, x) => sum + x, -6);
  return new Uint8Array(Float32Array.from({ length: count }, () => deviation * one()).buffer);
}

function elements(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
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
