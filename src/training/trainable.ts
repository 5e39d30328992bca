import { type Gpu, type Tensor, tensorBytes, type TensorMemory } from "../gpu/mod.ts";
import {
  type Adapter,
  type AdapterTensors,
  openAdapter,
  readAdapter,
  writeAdapter,
} from "../model/adapter.ts";
import type { AdapterConfig, TargetModules } from "../model/adapter_config.ts";
import { adapterForm, adapterRank, targetedModules } from "../model/adapter_modules.ts";
import { InputError } from "../errors.ts";
import { type Decoder, loraSpecs, withLora, withSaved } from "../model/decoder.ts";
import {
  type DeclaredWeights,
  declareWeights,
  loadDecoder,
  type OnLoad,
  type StoredDtype,
  uploadRuns,
} from "../model/loading.ts";
import type { Checksums } from "../model/checksums.ts";
import { writeModel } from "../model/export.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type LinearModule, linearNames, weightSpecs } from "../model/modules.ts";
import { checkFinite } from "../model/non_finite.ts";
import type { TrainedParameters } from "../model/parameters.ts";
import { fromF32, savedAs } from "../model/dtype.ts";
import { Checkpoint } from "../model/safetensors.ts";
import { checkSavedNames, savedModules, type SavedNames } from "../model/saved_modules.ts";
import { storedDtype, storedDtypes, transpose, type WeightSpec } from "../model/weights.ts";
import { Random } from "./random.ts";
import type { LoraSettings, TrainingSettings } from "../api/settings.ts";
import type { TrainRequest } from "./request.ts";

/** What a run trains: an adapter on frozen weights, or the weights themselves. */
export interface Trainable {
  readonly decoder: Decoder;
  readonly trained: TrainedParameters;
  /** What of the adapter that training begins with is not heeded. */
  readonly warnings?: readonly string[];
  /**
   * Writes what was learned as a run can go on from it: PEFT files, or a whole model folder in f32.
   *
   * @returns the checksums of the weights' files, as are `publish`'s
   * @throws {NonFiniteError} where a number is none
   */
  save(directory: string): Promise<Checksums>;
  /** Writes it as its users want it, whole weights in the type that was asked for. @throws {InputError} where that cannot hold them */
  publish(directory: string): Promise<Checksums>;
  free(): void;
}

/** The files that {@link Trainable.save} writes and a resumed run reads. */
export function savedFiles({ lora }: { readonly lora: LoraSettings | null }): string[] {
  return lora ? ["adapter_config.json", "adapter_model.safetensors"] : ["model.safetensors"];
}

/**
 * A LoRA adapter on a frozen decoder: with PEFT's initialisation (A uniform within 1 / sqrt(inputs), B zero), as the
 * adapter has it that training begins with, or as a checkpoint has it. Saved modules begin with the base's weights.
 *
 * @param model the base model's folder
 * @param base what `adapter_config.json` calls it; its folder unless given
 * @param init folder of the adapter to begin with; null for a fresh one
 * @param resume folder of a checkpoint, which goes before `init`; null at a run's beginning
 * @throws {InputError} where target_modules or modules_to_save match nothing, or the adapter or checkpoint does not fit
 */
export async function trainableLora(
  gpu: Gpu,
  decoder: Decoder,
  lora: LoraSettings,
  { model, base = { name: model, revision: null }, seed, init, resume }: {
    readonly model: string;
    readonly base?: TrainRequest["base"];
    readonly seed: number;
    readonly init: string | null;
    readonly resume: string | null;
  },
): Promise<Trainable> {
  const config = adapterConfig(lora, decoder.config, base);
  const modules = targetedModules(decoder.config, config.target_modules, config.modules_to_save);
  const saved = savedModules(decoder.config, config);
  const start = resume ?? init;
  const adapter = start === null ? null : await readAdapter(start, decoder.config);
  if (adapter && !resume) checkInit(adapter, { config, modules, saved });
  using source = start === null ? await Checkpoint.open(model) : await openAdapter(start);
  const stored: StoredDtype = (spec) => storedDtype(source, spec);
  const declared = await gpu.allocate(() => declareLora(gpu, decoder, config, stored));
  await uploadRuns(gpu, source, declared);
  const { trained } = declared;
  try {
    if (adapter) {
      for (const { module, a, b } of adapter.tensors) {
        gpu.write(trained.get(`${module.path}.lora_A`).value, a);
        gpu.write(trained.get(`${module.path}.lora_B`).value, b);
      }
    } else {
      const random = new Random(seed, 0x10a);
      for (const [name, { value }] of trained.parameters) {
        if (!name.endsWith(".lora_A")) continue;
        const bound = 1 / Math.sqrt(value.shape[1]!);
        const count = value.shape[0]! * value.shape[1]!;
        gpu.write(value, Float32Array.from({ length: count }, () => (2 * random.next() - 1) * bound));
      }
    }
  } catch (error) {
    trained.free();
    throw error;
  }
  const save = async (directory: string): Promise<Checksums> => {
    const factors = modules.flatMap(({ path }) => [`${path}.lora_A`, `${path}.lora_B`]);
    const values = await gpu.read(...factors.map((name) => trained.get(name).value)) as Float32Array[];
    for (const [i, name] of factors.entries()) checkFinite(name, values[i]!);
    const tensors = modules.map((module, i): AdapterTensors => ({
      module,
      a: values[2 * i]!,
      b: values[2 * i + 1]!,
    }));
    return await writeAdapter(
      directory,
      { config, tensors, saved },
      "F32",
      (spec) => ({ ...spec, dtype: "F32", data: bytesOf(spec.name, valuesOf(gpu, spec, trained)) }),
    );
  };
  const warnings = adapter?.warnings ?? [];
  return { decoder: declared.decoder, trained, warnings, save, publish: save, free: () => trained.free() };
}

/**
 * The adapter that a job asks for.
 *
 * @param base the base model's name; null where it does not matter
 * @throws {InputError} where modules_to_save match nothing
 */
export function adapterConfig(
  lora: LoraSettings,
  model: ModelConfig,
  base: TrainRequest["base"] | null,
): AdapterConfig {
  return {
    r: lora.r,
    lora_alpha: lora.alpha,
    lora_dropout: lora.dropout,
    target_modules: targetsOf(lora, model),
    use_rslora: lora.use_rslora,
    ...patternsOf(lora),
    ...savedNamesOf(lora, model),
    base_model_name_or_path: base?.name ?? null,
    revision: base?.revision ?? null,
  };
}

/** Whether the model stands inside another, whose vision tower has layers of the same names. */
function isWrapped({ traits: { names } }: ModelConfig): boolean {
  return names.blocks.includes(".language_model.");
}

/**
 * By name, as PEFT writes "all-linear": what that means differs from family to family. Of a wrapped model a pattern leaves
 * out the layers of its vision tower.
 */
function targetsOf({ target_modules }: LoraSettings, model: ModelConfig): TargetModules {
  const names = target_modules === "all-linear" ? linearNames(model) : target_modules;
  if (!isWrapped(model)) return names;
  const ends = names.map((name) => name.replaceAll(".", "\\."));
  return { pattern: `(?=.*\\.language_model\\.)(.*\\.)?(${ends.join("|")})` };
}

/** As they are given; of a wrapped model the modules' whole paths. */
function savedNamesOf(lora: LoraSettings, model: ModelConfig): SavedNames {
  const names = checkSavedNames(model, lora);
  if (!isWrapped(model)) return names;
  const paths = savedModules(model, names).weights.map(({ name }) => name.slice(0, name.lastIndexOf(".")));
  return { ...names, modules_to_save: [...new Set(paths)] };
}

/** The fields that are given. */
function patternsOf(
  { rank_pattern, alpha_pattern }: LoraSettings,
): Pick<AdapterConfig, "rank_pattern" | "alpha_pattern"> {
  return { ...rank_pattern && { rank_pattern }, ...alpha_pattern && { alpha_pattern } };
}

/** A factor lies in one binding. @throws {InputError} where the rank is too large for that */
export function checkRank(
  { maxTensorBytes }: Pick<TensorMemory, "maxTensorBytes">,
  model: ModelConfig,
  adapter: Pick<AdapterConfig, "r" | "rank_pattern" | "target_modules" | "modules_to_save">,
): void {
  for (
    const { path, inputs, outputs } of targetedModules(model, adapter.target_modules, adapter.modules_to_save)
  ) {
    const r = adapterRank(adapter, path);
    const most = Math.floor(maxTensorBytes / tensorBytes([Math.max(inputs, outputs)], "f32"));
    if (r <= most) continue;
    throw new InputError(
      (field) => `${field} is ${r}, but on this device a factor of ${path} has at most rank ${most}.`,
      {
        path: ["lora", r === adapter.r ? "r" : "rank_pattern"],
        value: r,
        accepted: `at most ${most} on this device`,
      },
    );
  }
}

/**
 * A decoder with an adapter to be trained, without numbers in it.
 *
 * @param stored types of the file that saved modules are to be read from; any where they are not
 * @throws {InputError} where the rank is too large for the device
 */
export function declareLora(
  memory: TensorMemory,
  decoder: Decoder,
  config: AdapterConfig,
  stored: StoredDtype = () => "F32",
): Pick<Trainable, "decoder" | "trained" | "free"> & Pick<DeclaredWeights, "runs"> {
  checkRank(memory, decoder.config, config);
  const saved = savedModules(decoder.config, config);
  const factors = loraSpecs(decoder.config, config);
  const { weights, trained, runs, free } = declareWeights(
    memory,
    saved.weights,
    stored,
    { trainable: true },
    factors,
  );
  const { parameters } = trained!;
  const adapted = withLora(
    withSaved(decoder, weights, saved),
    (name) => parameters.get(name),
    (path) => adapterForm(config, path).scale,
    config.lora_dropout,
  );
  return { decoder: adapted, trained: trained!, runs, free };
}

/** @throws {InputError} where an adapter has resized the vocabulary, to `rows` */
export function checkVocabulary(rows: number | undefined): void {
  if (rows === undefined) return;
  throw new InputError(
    (field) => `${field} has resized the vocabulary to ${rows} rows: training cannot go on from it.`,
    {
      path: ["lora", "init_adapter"],
      value: rows,
      accepted: "an adapter of the base's own vocabulary; merge this one and train on the merged model",
    },
  );
}

/** @throws {InputError} where an adapter is not of the form that the settings ask for */
function checkInit(
  { config, tensors, saved, vocab_size }: Adapter,
  asked: Omit<Adapter, "tensors"> & { readonly modules: readonly LinearModule[] },
): void {
  checkVocabulary(vocab_size);
  const form = ({ config, saved }: Omit<Adapter, "tensors">, modules: readonly LinearModule[]) =>
    JSON.stringify([
      modules.map(({ path }) => [path, adapterForm(config, path)]),
      saved.weights.map(({ name }) => name),
      saved.tied,
    ]);
  if (form({ config, saved }, tensors.map(({ module }) => module)) === form(asked, asked.modules)) return;
  throw new InputError(
    (field) => `${field} has another r, alpha, target_modules or modules_to_save than the job's settings.`,
    {
      path: ["lora", "init_adapter"],
      accepted: "an adapter of the form that the settings have; leave them out to take the adapter's",
    },
  );
}

/**
 * All weights of a model, in f32.
 *
 * @param model the base model's folder
 * @param saveDtype the type that they are published in; each weight's own in the base model's files unless given
 * @param resume folder of a checkpoint, which is a model folder too; null to begin with the base model
 * @throws as {@link loadDecoder}
 */
export async function trainableWeights(
  gpu: Gpu,
  model: string,
  saveDtype: TrainingSettings["save_dtype"],
  resume: string | null,
  onLoad: OnLoad,
): Promise<Trainable> {
  const config = await readModelConfig(model);
  const stored = await storedDtypes(model);
  using checkpoint = await Checkpoint.open(resume ?? model);
  const { decoder, trained } = await loadDecoder(gpu, checkpoint, config, { trainable: true, onLoad });
  const weights = () =>
    weightSpecs(config).map((spec) => ({
      ...spec,
      dtype: stored(spec),
      values: () => valuesOf(gpu, spec, trained!),
    }));
  return {
    decoder,
    trained: trained!,
    // in one file, whose name a resumed run knows
    save: (directory) => writeModel(directory, model, weights(), { dtype: "F32", maxShardBytes: Infinity }),
    publish: (directory) => writeModel(directory, model, weights(), { dtype: savedAs(saveDtype) }),
    free: () => trained!.free(),
  };
}

/** A trained weight's numbers as its file has them in order, a piece at a time. */
async function* valuesOf(
  gpu: Gpu,
  { name, transposed }: WeightSpec,
  trained: TrainedParameters,
): AsyncGenerator<Float32Array> {
  if (transposed) {
    const { value } = trained.get(name);
    yield transpose(await gpu.readF32(value), value.shape[1]!);
    return;
  }
  const runs = [...trained.parameters.values()].filter((run) => run.name.split("#")[0] === name);
  for (const { value } of runs) {
    for (const piece of pieces(value)) yield await gpu.readF32(piece);
  }
}

async function* bytesOf(name: string, values: AsyncIterable<Float32Array>): AsyncGenerator<Uint8Array> {
  for await (const each of values) {
    checkFinite(name, each);
    yield fromF32(each, "F32");
  }
}

const PIECE_BYTES = 16 * 2 ** 20;

function* pieces(tensor: Tensor): Generator<Tensor> {
  for (let at = 0; at < tensor.bytes; at += PIECE_BYTES) {
    yield { ...tensor, offset: tensor.offset + at, bytes: Math.min(PIECE_BYTES, tensor.bytes - at) };
  }
}
