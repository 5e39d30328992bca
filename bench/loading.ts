import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Gpu } from "../src/gpu/mod.ts";
import { type TensorSource, writeSafetensors } from "../src/model/safetensors_writer.ts";
import type { Loaded } from "./_loading_process.ts";
import type { Findings } from "./_rows.ts";

const LAYERS = 10;
const HIDDEN = 2048;
const HEADS = 16;
const KEY_VALUE_HEADS = 4;
const INTERMEDIATE = 5504;
const VOCABULARY = 32_000;
const CHUNK = new Uint8Array(1 << 20);

const CONFIG = {
  model_type: "llama",
  hidden_size: HIDDEN,
  intermediate_size: INTERMEDIATE,
  num_hidden_layers: LAYERS,
  num_attention_heads: HEADS,
  num_key_value_heads: KEY_VALUE_HEADS,
  vocab_size: VOCABULARY,
  rms_norm_eps: 1e-5,
  rope_theta: 10000,
  max_position_embeddings: 4096,
  tie_word_embeddings: true,
};

/** Host memory while a sharded bf16 checkpoint of more than 1 GB is loaded: its weights pass through in chunks. */
export async function benchLoading(gpu: Gpu): Promise<Findings> {
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  try {
    const bytes = await writeShards(folder);
    const { peak_bytes, seconds } = await loadApart(folder);
    const size = `${LAYERS + 1} shards of bf16, ${(bytes / 1e9).toFixed(2)} GB, in a process of its own`;
    const rows = [
      {
        name: "host memory while a checkpoint is loaded, peak above the start",
        value: peak_bytes / 2 ** 20,
        unit: "MiB",
        target: { at_most: 512 },
        detail: gpu.software ? `${size}, without the weights themselves, which the driver keeps there` : size,
      },
      {
        name: "loading that checkpoint",
        value: bytes / 1e9 / seconds,
        unit: "GB/s",
        detail: "from the disk's cache",
      },
    ];
    return { rows };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Loads in a new process: this one has memory left over from other benchmarks, which would be used again unseen. */
async function loadApart(folder: string): Promise<Loaded> {
  const script = fileURLToPath(new URL("./_loading_process.ts", import.meta.url));
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-read", "--allow-env", script, folder],
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  if (!success) throw new Error(`The checkpoint was not loaded: ${text.decode(stderr)}`);
  return JSON.parse(text.decode(stdout));
}

/** A shard a block and one for the rest, all weights 0, and config.json. @returns bytes of weights */
async function writeShards(folder: string): Promise<number> {
  const keyValue = KEY_VALUE_HEADS * HIDDEN / HEADS;
  const blocks = Array.from({ length: LAYERS }, (_, layer) => {
    const tensor = (name: string, ...shape: number[]) => zeros(`model.layers.${layer}.${name}.weight`, shape);
    return [
      tensor("input_layernorm", HIDDEN),
      tensor("post_attention_layernorm", HIDDEN),
      tensor("self_attn.q_proj", HIDDEN, HIDDEN),
      tensor("self_attn.k_proj", keyValue, HIDDEN),
      tensor("self_attn.v_proj", keyValue, HIDDEN),
      tensor("self_attn.o_proj", HIDDEN, HIDDEN),
      tensor("mlp.gate_proj", INTERMEDIATE, HIDDEN),
      tensor("mlp.up_proj", INTERMEDIATE, HIDDEN),
      tensor("mlp.down_proj", HIDDEN, INTERMEDIATE),
    ];
  });
  const shards = [[
    zeros("model.embed_tokens.weight", [VOCABULARY, HIDDEN]),
    zeros("model.norm.weight", [HIDDEN]),
  ], ...blocks];
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(CONFIG));
  const weight_map: Record<string, string> = {};
  for (const [index, tensors] of shards.entries()) {
    const file = `model-${index + 1}.safetensors`;
    await writeSafetensors(join(folder, file), tensors);
    for (const { name } of tensors) weight_map[name] = file;
  }
  await Deno.writeTextFile(join(folder, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  return shards.flat().reduce(
    (sum, { shape }) => sum + 2 * shape.reduce((product, size) => product * size, 1),
    0,
  );
}

function zeros(name: string, shape: readonly number[]): TensorSource {
  return { name, dtype: "BF16", shape, data: chunks(2 * shape.reduce((product, size) => product * size, 1)) };
}

async function* chunks(bytes: number): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0; left -= CHUNK.length) {
    yield CHUNK.subarray(0, Math.min(left, CHUNK.length));
  }
}
