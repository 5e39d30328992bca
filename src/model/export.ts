import { join } from "node:path";
import { readJsonObject, writeWhole } from "./_files.ts";
import { openAdapter, readAdapter } from "./adapter.ts";
import { adapterForm } from "./adapter_modules.ts";
import { readModelConfig } from "./config.ts";
import { type FloatDtype, fromF32, toF32 } from "./dtype.ts";
import { Checkpoint, type TensorSource, writeSafetensors } from "./safetensors.ts";
import { mergedWeights } from "./saved_modules.ts";
import { storedDtype, storedName, transpose, type WeightSpec } from "./weights.ts";

const CHAT_TEMPLATE = "chat_template.jinja";

/** Files beside the weights that make a folder a usable model. */
const COMPANIONS = [
  "generation_config.json",
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  CHAT_TEMPLATE,
  "tokenizer.model",
];

/**
 * Copies configuration and tokenizer of a model to another folder.
 *
 * @param changed what `config.json` shall say of the weights there
 */
export async function copyModelFiles(
  from: string,
  to: string,
  changed: { readonly dtype: string; readonly tie_word_embeddings?: boolean },
): Promise<void> {
  const { torch_dtype: _, ...config } = await readJsonObject(join(from, "config.json"), asWritten);
  await writeText(join(to, "config.json"), JSON.stringify({ ...config, ...changed }, null, 2) + "\n");
  for (const name of COMPANIONS) await copyIfThere(from, to, name);
}

/** Keeps a number's own spelling: where 30.0 has become 30, transformers refuses it for want of a float. */
function asWritten(_key: string, value: unknown, { source }: { readonly source?: string }): unknown {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return typeof value === "number" && source !== undefined ? rawJSON(source) : value;
}

async function copyIfThere(from: string, to: string, name: string): Promise<void> {
  let bytes;
  try {
    bytes = await Deno.readFile(join(from, name));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  await writeWhole(join(to, name), [bytes]);
}

const NAMES: Readonly<Record<FloatDtype, string>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/**
 * Writes the model with the adapter merged in: W + scale B A, computed in float64, and saved modules as they are,
 * stored in the weights' own type or the one asked for. A head that an adapter has untied from the embedding is
 * written beside it.
 *
 * @param model the base model's folder
 * @param adapter folder of the PEFT files, or null to convert the model's type alone
 * @param out an empty or missing folder
 * @throws {InputError} where either cannot be read or they do not fit
 */
export async function exportMerged(
  model: string,
  adapter: string | null,
  out: string,
  dtype?: FloatDtype,
): Promise<void> {
  const config = await readModelConfig(model);
  using checkpoint = await Checkpoint.open(model);
  const lora = adapter === null ? null : await readAdapter(adapter, config);
  const factors = new Map(lora?.tensors.map((factor) => [`${factor.module.path}.weight`, factor]));
  using file = adapter === null ? null : await openAdapter(adapter);
  const saved = new Set(lora?.saved.weights.map(({ name }) => name));
  await Deno.mkdir(out, { recursive: true });
  const tensors = mergedWeights(config, lora?.saved).map((spec): TensorSource => {
    const { name, shape } = spec;
    const target = dtype ?? storedDtype(checkpoint, spec);
    const from = file && saved.has(name) ? file : checkpoint;
    return { name, shape, dtype: target, data: rows(from, spec, target) };
  });

  async function* rows(
    from: Checkpoint,
    spec: WeightSpec,
    target: FloatDtype,
  ): AsyncGenerator<Uint8Array> {
    const { name, shape: [height, width = 1], transposed } = spec;
    const stored = storedDtype(from, spec);
    const factor = factors.get(name);
    // the file's matrix is W^T where it is transposed: then A^T B^T is added
    const { r, scale } = factor && lora ? adapterForm(lora.config, factor.module.path) : { r: 0, scale: 0 };
    const [left, right] = !factor
      ? []
      : transposed
      ? [transpose(factor.a, factor.module.inputs), transpose(factor.b, r)]
      : [factor.b, factor.a];
    const step = Math.max(1, Math.floor(2 ** 22 / width));
    for (let first = 0; first < height; first += step) {
      const count = Math.min(step, height - first);
      const values = toF32(await from.readRows(storedName(from, spec), first, count), stored);
      if (left && right) {
        addProduct(values, left.subarray(first * r, (first + count) * r), right, r, scale);
      }
      yield fromF32(values, target);
    }
  }

  await writeSafetensors(join(out, "model.safetensors"), tensors);
  const type = tensors.find(({ shape }) => shape.length === 2)!.dtype as FloatDtype;
  const untied = lora?.saved.untied ? { tie_word_embeddings: false } : {};
  await copyModelFiles(model, out, { dtype: NAMES[type], ...untied });
  if (adapter !== null) await copyIfThere(adapter, out, CHAT_TEMPLATE);
}

/** values [n, k] += scale * b [n, r] a [r, k], each element summed in float64. */
function addProduct(values: Float32Array, b: Float32Array, a: Float32Array, r: number, scale: number): void {
  const k = a.length / r;
  for (let row = 0; row < b.length / r; row++) {
    for (let column = 0; column < k; column++) {
      let sum = 0;
      for (let i = 0; i < r; i++) sum += b[row * r + i]! * a[i * k + column]!;
      values[row * k + column]! += scale * sum;
    }
  }
}

async function writeText(path: string, text: string): Promise<void> {
  await writeWhole(path, [new TextEncoder().encode(text)]);
}
