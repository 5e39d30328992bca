/** LoRA adapters in PEFT's files: `adapter_config.json` beside `adapter_model.safetensors`, as PEFT 0.21 writes them. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { exists, readJsonObject, writeWhole } from "./_files.ts";
import {
  type AdapterConfig,
  CONFIG_FILE,
  formatAdapterConfig,
  parseAdapterConfig,
} from "./adapter_config.ts";
import { adaptedModules, adapterForm } from "./adapter_modules.ts";
import { SENSES } from "./_stored_weights.ts";
import type { Checksums } from "./checksums.ts";
import type { ModelConfig } from "./config.ts";
import { type FloatDtype, fromF32 } from "./dtype.ts";
import type { LinearModule } from "./modules.ts";
import { WeightFiles } from "./safetensors.ts";
import { type TensorSource, writeSafetensors } from "./safetensors_writer.ts";
import { HEAD_MODULE, HEAD_WEIGHT, type SavedModules, savedModules } from "./saved_modules.ts";
import { adapterName, spellings, type WeightSpec } from "./weights.ts";

const WEIGHTS_FILE = "adapter_model.safetensors";

/** The factors of one module's adapter; r and scale are as {@link adapterForm} has them. */
export interface AdapterTensors {
  readonly module: LinearModule;
  /** [r, inputs] */
  readonly a: Float32Array;
  /** [outputs, r] */
  readonly b: Float32Array;
}

/** An adapter as it was read. */
export interface Adapter {
  readonly config: AdapterConfig;
  /** In the order of linearModules(). */
  readonly tensors: readonly AdapterTensors[];
  /** Modules that it replaces; their weights stay in its file, which {@link openAdapter} opens. */
  readonly saved: SavedModules;
  /** Rows of its embedding and head, where it was trained with another vocabulary than the base's. */
  readonly vocab_size?: number;
  /** What of its file is not heeded, a sentence each. */
  readonly warnings?: readonly string[];
}

/** Whether a folder holds an adapter (and not, say, full weights). */
export async function hasAdapter(dir: string): Promise<boolean> {
  return await exists(join(dir, CONFIG_FILE));
}

/**
 * Reads an adapter's configuration alone.
 *
 * @param dir Folder with `adapter_config.json`
 * @param model The base model's configuration
 * @returns It, and the modules that it adapts, in the order of linearModules()
 * @throws InputError where the file is missing or malformed, or the adapter is no plain LoRA
 */
export async function readAdapterConfig(
  dir: string,
  model: ModelConfig,
): Promise<Omit<Adapter, "tensors"> & { readonly modules: readonly LinearModule[] }> {
  const json = await readJsonObject(join(dir, CONFIG_FILE));
  const config = parseAdapterConfig(json);
  return { config, modules: adaptedModules(model, config, json), saved: savedModules(model, config) };
}

/** Rows of the vocabulary that an adapter has resized, by the header of its weights; undefined where it has not. */
export async function resizedVocabulary(dir: string, model: ModelConfig): Promise<number | undefined> {
  const { config } = await readAdapterConfig(dir, model);
  using weights = await openAdapter(dir);
  return savedIn(weights, model, config).vocab_size;
}

/** Opens the file of an adapter's weights. @throws InputError where there is none that can be read */
export async function openAdapter(dir: string): Promise<WeightFiles> {
  if (!await exists(join(dir, WEIGHTS_FILE)) && await exists(join(dir, "adapter_model.bin"))) {
    throw new InputError(
      `${basename(dir)} holds its adapter as adapter_model.bin, which must be converted first.`,
      { path: [{ file: WEIGHTS_FILE }], value: "adapter_model.bin", accepted: WEIGHTS_FILE },
    );
  }
  return await WeightFiles.openFile(join(dir, WEIGHTS_FILE));
}

/**
 * Reads an adapter and checks that its tensors are those that its configuration names for this model: none missing,
 * none besides, every one finite and of the right shape.
 *
 * @param dir Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @param model The base model's configuration
 * @returns The adapter with its factors as f32
 * @throws InputError where a file is missing or malformed, the adapter is no plain LoRA, or it does not fit the model
 */
export async function readAdapter(dir: string, model: ModelConfig): Promise<Adapter> {
  const { config, modules } = await readAdapterConfig(dir, model);
  using weights = await openAdapter(dir);
  const { saved, ...rows } = savedIn(weights, model, config);
  const inFull = saved.tied ? [...saved.weights, headOf(saved)] : saved.weights;
  const inFile = (name: string) =>
    spellings(name).map(adapterName).find((each) => weights.has(each)) ?? adapterName(name);
  const expected = new Set([
    ...modules.flatMap(({ path }) => [tensorName(path, "A"), tensorName(path, "B")]),
    ...inFull.map(({ name }) => name),
  ].map(inFile));
  const strangers = weights.names().filter((name) => !expected.has(name) && !isCopy(name, expected));
  const stranger = strangers.find((name) => !SENSES.test(name));
  if (stranger !== undefined || expected.size === 0) {
    const name = stranger ?? "no tensor";
    throw new InputError(
      `${WEIGHTS_FILE} holds ${name}, which its target_modules and modules_to_save do not name in this model.`,
      {
        path: [{ file: WEIGHTS_FILE }],
        value: name,
        accepted:
          "lora_A.weight and lora_B.weight of every targeted linear layer, and the saved modules' weights",
      },
    );
  }
  const read = async (name: string, shape: readonly number[]): Promise<Float32Array> => {
    weights.expect(name, shape);
    const values = await weights.readF32(name);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad === -1) return values;
    throw new InputError(`${name} holds ${values[bad]} at element ${bad}.`, {
      path: [name],
      value: `${values[bad]}`,
      accepted: "finite numbers",
    });
  };
  for (const { name, shape } of inFull) weights.expect(inFile(name), shape);
  const tensors: AdapterTensors[] = [];
  for (const module of modules) {
    const { r } = adapterForm(config, module.path);
    const a = await read(inFile(tensorName(module.path, "A")), [r, module.inputs]);
    const b = await read(inFile(tensorName(module.path, "B")), [module.outputs, r]);
    tensors.push({ module, a, b });
  }
  if (strangers.length === 0) return { config, tensors, saved, ...rows };
  const warning = `The adapter holds ${strangers.length} tensors that are not used here, ${
    strangers[0]
  } the first: they are neither scored with, trained, merged nor kept in a result.`;
  return { config, tensors, saved, ...rows, warnings: [warning] };
}

/**
 * The saved modules as a file has them. Where the vocabulary has been resized, PEFT saves the embedding and the head
 * beside what modules_to_save names, in as many rows as they have then.
 */
function savedIn(
  weights: WeightFiles,
  model: ModelConfig,
  config: AdapterConfig,
): Pick<Adapter, "saved" | "vocab_size"> {
  const saved = savedModules(model, config);
  const { names: { embedding } } = model.plan;
  const tables = [embedding, HEAD_MODULE].flatMap((path) => {
    const name = spellings(`${path}.weight`).map(adapterName).find((each) => weights.has(each));
    const shape = name === undefined ? [] : weights.info(name).shape;
    return shape.length === 2 && shape[1] === model.hidden_size ? [{ path, rows: shape[0]! }] : [];
  });
  const [first] = tables;
  const isNamed = ({ path }: { path: string }) => saved.weights.some(({ name }) => name === `${path}.weight`);
  if (!first) return { saved };
  const resized = tables.some(({ rows }) => rows !== model.vocab_size);
  if (!resized && (saved.tied || tables.every(isNamed))) return { saved };
  if (resized && (tables.some(({ rows }) => rows !== first.rows) || tables.length < 2)) {
    const found = tables.map(({ path, rows }) => `${path} of ${rows} rows`).join(" and ");
    throw new InputError(
      `The adapter holds ${found}, but the base's embedding and head have ${model.vocab_size}.`,
      {
        path: [{ file: WEIGHTS_FILE }],
        value: first.rows,
        accepted: "an embedding and a head of as many rows as each other, or as the base",
      },
    );
  }
  const tied = model.tie_word_embeddings && !tables.some(isNamed);
  return {
    saved: savedModules({ ...model, vocab_size: first.rows }, {
      modules_to_save: [...config.modules_to_save, ...tables.map(({ path }) => path)],
      ensure_weight_tying: config.ensure_weight_tying || tied,
    }),
    ...resized && { vocab_size: first.rows },
  };
}

/** Whether a tensor is one of those that PEFT saves again beside a saved table: it reads none of them. */
function isCopy(name: string, expected: ReadonlySet<string>): boolean {
  const plain = name.replace(/\.(original_module|modules_to_save)(?=\.weight$)/, "");
  return plain !== name && expected.has(plain);
}

/** The head's weight where it is the saved embedding. */
function headOf({ weights }: SavedModules): WeightSpec {
  return { ...weights[0]!, name: HEAD_WEIGHT };
}

/**
 * Writes an adapter as PEFT does; each of the two files appears whole or not at all.
 *
 * @param dir An existing folder
 * @param adapter What readAdapter() would give back
 * @param dtype How the factors are stored
 * @param weightOf A saved weight by its own name, as the file shall hold it; asked twice where the head is tied
 * @returns the checksums of the weights' file
 * @throws RangeError where a factor is not of its module's size
 */
export async function writeAdapter(
  dir: string,
  adapter: Adapter,
  dtype: FloatDtype = "F32",
  weightOf?: (spec: WeightSpec) => TensorSource,
): Promise<Checksums> {
  const { config, tensors, saved } = adapter;
  const sources = tensors.flatMap(({ module: { path, inputs, outputs }, a, b }): TensorSource[] => {
    const { r } = adapterForm(config, path);
    const nameOf = (factor: "A" | "B") => adapterName(tensorName(path, factor));
    return [
      { name: nameOf("A"), dtype, shape: [r, inputs], data: fromF32(a, dtype) },
      { name: nameOf("B"), dtype, shape: [outputs, r], data: fromF32(b, dtype) },
    ];
  });
  for (const spec of saved.weights) sources.push({ ...weightOf!(spec), name: adapterName(spec.name) });
  if (saved.tied) sources.push({ ...weightOf!(saved.weights[0]!), name: adapterName(HEAD_WEIGHT) });
  const sums = { [WEIGHTS_FILE]: await writeSafetensors(join(dir, WEIGHTS_FILE), sources) };
  const text = formatAdapterConfig(adapter.config, tensors.some(({ module }) => module.transposed));
  await writeWhole(join(dir, CONFIG_FILE), [new TextEncoder().encode(text)]);
  return sums;
}

function tensorName(path: string, factor: "A" | "B"): string {
  return `${path}.lora_${factor}.weight`;
}
