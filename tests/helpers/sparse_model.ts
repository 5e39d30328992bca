/** A large model that takes no room on the disk: shards whose weights are holes, read as zeros. */
import { join } from "node:path";
import { parseModelConfig } from "../../src/model/config.ts";
import { weightSpecs } from "../../src/model/modules.ts";
import { writeTinyModel } from "./tiny_model.ts";

/** Bytes of a block's weights, in bf16. */
const BLOCK_BYTES = 30_412_800;

/**
 * Writes a Llama of bf16 zeros with the tiny model's tokenizer, a shard a block.
 *
 * @param bytes about how many of weights; reading them takes seconds where they are more than a few hundred MB
 * @returns `dir`
 */
export async function writeSparseModel(dir: string, bytes: number): Promise<string> {
  await writeTinyModel(dir);
  await Deno.remove(join(dir, "model.safetensors"));
  const config = JSON.parse(await Deno.readTextFile(join(dir, "config.json")));
  Object.assign(config, {
    hidden_size: 1024,
    intermediate_size: 4096,
    num_hidden_layers: Math.ceil(bytes / BLOCK_BYTES),
    num_attention_heads: 8,
    num_key_value_heads: 2,
    head_dim: 128,
    dtype: "bfloat16",
  });
  await Deno.writeTextFile(join(dir, "config.json"), JSON.stringify(config));
  const weight_map: Record<string, string> = {};
  const shards = new Map<string, Record<string, unknown>>();
  const sizes = new Map<string, number>();
  for (const { name, shape } of weightSpecs(parseModelConfig(config))) {
    const file = `model-${/layers\.(\d+)/.exec(name)?.[1] ?? "rest"}.safetensors`;
    const begin = sizes.get(file) ?? 0;
    const end = shape.reduce((product, size) => product * size, 2) + begin;
    const header = shards.get(file) ?? {};
    header[name] = { dtype: "BF16", shape, data_offsets: [begin, end] };
    shards.set(file, header);
    sizes.set(file, end);
    weight_map[name] = file;
  }
  for (const [file, header] of shards) {
    const json = new TextEncoder().encode(JSON.stringify(header));
    const length = new Uint8Array(8);
    new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
    const path = join(dir, file);
    await Deno.writeFile(path, new Blob([length, json]).stream());
    await Deno.truncate(path, 8 + json.length + sizes.get(file)!);
  }
  await Deno.writeTextFile(join(dir, "model.safetensors.index.json"), JSON.stringify({ weight_map }));
  return dir;
}
