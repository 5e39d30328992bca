/** Model folders as others expect them. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject } from "../json.ts";
import { exists, readJsonObject, readSmallFile, writeWhole } from "./_files.ts";
import { openAdapter, readAdapter } from "./adapter.ts";
import { adapterForm } from "./adapter_modules.ts";
import { writeChecksums } from "./checksum_file.ts";
import type { Checksums } from "./checksums.ts";
import { readModelConfig } from "./config.ts";
import { findNonFinite, type FloatDtype, fromF32, isFloatDtype, toF32 } from "./dtype.ts";
import { NonFiniteError } from "./non_finite.ts";
import { WeightFiles } from "./safetensors.ts";
import { writeModelWeights } from "./safetensors_writer.ts";
import { HEAD_WEIGHT, mergedWeights } from "./saved_modules.ts";
import { asWritten, copyTokenizer, writeJson } from "./tokenizer_files.ts";
import { storedDtype, storedName, transpose, type WeightSpec } from "./weights.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";

/** How a model's weights are written. */
export interface ExportOptions {
  /** The type of all; each one's own in the base model's files unless given. */
  readonly dtype?: FloatDtype | undefined;
  /** What a shard's tensors take at most; see {@link writeModelWeights}. */
  readonly maxShardBytes?: number;
}

/** A weight to be written. */
export interface WeightSource {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its type in the base model's files. */
  readonly dtype: FloatDtype;
  /** Its numbers in the file's order; each piece is the receiver's own, who detaches its buffer. */
  readonly values: () => AsyncIterable<Float32Array>;
}

/**
 * Writes a model folder without its tokenizer: weights and configuration. Where the base wraps a text model in another
 * (`text_config`), what its files hold beside that, such as a vision tower, goes along.
 *
 * @param out an existing folder
 * @param base the folder that the configuration is taken from
 * @param options.changed fields that config.json shall have otherwise
 * @returns the checksums of the weights' files
 * @throws {InputError} where the type cannot hold a weight
 */
export async function writeModel(
  out: string,
  base: string,
  weights: readonly WeightSource[],
  { dtype, maxShardBytes, changed = {} }: ExportOptions & {
    readonly changed?: Readonly<Record<string, unknown>>;
  } = {},
): Promise<Checksums> {
  const config = await readJsonObject(join(base, "config.json"), asWritten);
  using wrapper = isObject(config["text_config"]) ? await WeightFiles.open(base) : null;
  const all = wrapper === null ? weights : [...weights, ...besidesText(wrapper)];
  const tensors = all.map(({ name, shape, dtype: own, values }) => {
    const target = dtype ?? own;
    return { name, shape, dtype: target, data: encode(name, values(), target) };
  });
  const sums = await writeModelWeights(out, tensors, maxShardBytes);
  const type = NAMES[tensors.find(({ shape }) => shape.length === 2)!.dtype];
  // a head that the base ties, and that an adapter or its own files have untied
  const untied = weights.some(({ name }) => name === HEAD_WEIGHT) ? { tie_word_embeddings: false } : {};
  await writeJson(join(out, "config.json"), withChanges(config, type, { ...changed, ...untied }));
  const generation = "generation_config.json";
  if (await exists(join(base, generation))) {
    await writeWhole(join(out, generation), [await readSmallFile(join(base, generation))]);
  }
  return sums;
}

const NAMES: Readonly<Record<FloatDtype, string>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Weights of a wrapped model's files that are not its text model's. */
function besidesText(weightFiles: WeightFiles): WeightSource[] {
  return weightFiles.names().flatMap((name) => {
    const { dtype, shape } = weightFiles.info(name);
    // others than floats are no weights, but counters that transformers makes anew
    if (/(^|\.)(language_model|lm_head)\./.test(name) || !isFloatDtype(dtype)) return [];
    return [{
      name,
      shape,
      dtype,
      values: async function* () {
        yield await weightFiles.readF32(name);
      },
    }];
  });
}

/** Numbers as a file has them. @throws {InputError} at the first that is not finite, or that the type cannot hold */
async function* encode(
  name: string,
  values: AsyncIterable<Float32Array>,
  dtype: FloatDtype,
): AsyncGenerator<Uint8Array> {
  for await (const piece of values) {
    const bytes = fromF32(piece, dtype);
    const bad = findNonFinite(bytes, dtype);
    if (bad !== -1) {
      if (!Number.isFinite(piece[bad])) throw new NonFiniteError(name, piece[bad]!);
      const type = dtype.toLowerCase();
      throw new InputError((field) => `${field} ${type} cannot hold ${piece[bad]}, a number of ${name}.`, {
        path: ["save_dtype"],
        value: type,
        accepted: "a type that holds every weight: f16 goes up to 65504, bf16 and f32 to 3.4e38",
      });
    }
    yield bytes;
    free(bytes);
    free(piece);
  }
}

/** Gives memory back at once: V8 collects buffers so late that a merge held half of the model. */
function free({ buffer }: Float32Array | Uint8Array): void {
  if (buffer instanceof ArrayBuffer && !buffer.detached) buffer.transfer(0);
}

/** A configuration with what was changed, in its text_config too; its weights' type by the names that it has. */
function withChanges(
  config: Readonly<Record<string, unknown>>,
  type: string,
  changed: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const { text_config: text } = config;
  const names = ["dtype", "torch_dtype"].filter((name) => name in config);
  return {
    ...config,
    ...Object.fromEntries((names.length > 0 ? names : ["dtype"]).map((name) => [name, type])),
    ...changed,
    ...(isObject(text) ? { text_config: withChanges(text, type, changed) } : {}),
  };
}

/**
 * Writes the model with the adapter merged in: W + scale B A, computed in float64, and saved modules as they are,
 * stored in the weights' own type or the one asked for. A head that an adapter has untied from the embedding is
 * written beside it; where it has resized the vocabulary, config.json says so. Its tokenizer and templates go along, and the
 * checksums of all.
 *
 * @param model the base model's folder
 * @param adapter folder of the PEFT files, or null to convert the model's type alone
 * @param out an empty or missing folder
 * @throws {InputError} where either cannot be read, they do not fit, or the type cannot hold a weight
 */
export async function exportMerged(
  model: string,
  adapter: string | null,
  out: string,
  options?: ExportOptions,
): Promise<void> {
  const config = await readModelConfig(model);
  using weightFiles = await WeightFiles.open(model);
  const lora = adapter === null ? null : await readAdapter(adapter, config);
  const factors = new Map(lora?.tensors.map((factor) => [`${factor.module.path}.weight`, factor]));
  using file = adapter === null ? null : await openAdapter(adapter);
  const saved = new Set(lora?.saved.weights.map(({ name }) => name));
  await Deno.mkdir(out, { recursive: true, mode: PRIVATE_FOLDER });
  const weights = mergedWeights(config, lora?.saved).map((spec): WeightSource => {
    const from = file && saved.has(spec.name) ? file : weightFiles;
    const { dtype } = weightFiles.info(storedName(weightFiles, spec)); // of resized tables too
    return { ...spec, dtype: dtype as FloatDtype, values: () => rows(from, spec) };
  });

  async function* rows(from: WeightFiles, spec: WeightSpec): AsyncGenerator<Float32Array> {
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
      const bytes = await from.readRows(storedName(from, spec), first, count);
      const values = toF32(bytes, stored);
      if (values.buffer !== bytes.buffer) free(bytes);
      if (left && right) {
        addProduct(values, left.subarray(first * r, (first + count) * r), right, r, scale);
      }
      yield values;
    }
  }

  const resized = lora?.vocab_size === undefined ? {} : { vocab_size: lora.vocab_size };
  const sums = await writeModel(out, model, weights, { ...options, changed: resized });
  await copyTokenizer(model, out, { adapter });
  await writeChecksums(out, sums);
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
