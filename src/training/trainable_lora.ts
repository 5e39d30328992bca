import type { Gpu } from "../gpu/mod.ts";
import {
  type Adapter,
  type AdapterTensors,
  openAdapter,
  readAdapter,
  writeAdapter,
} from "../model/adapter.ts";
import { adapterForm, targetedModules } from "../model/adapter_modules.ts";
import { InputError } from "../errors.ts";
import type { Decoder } from "../model/decoder.ts";
import type { StoredDtype } from "../model/declared_weights.ts";
import { uploadRuns } from "../model/loading.ts";
import type { Checksums } from "../model/checksums.ts";
import type { LinearModule } from "../model/modules.ts";
import { checkFinite } from "../model/non_finite.ts";
import { WeightFiles } from "../model/safetensors.ts";
import { savedModules } from "../model/saved_modules.ts";
import { storedDtype } from "../model/weights.ts";
import { Random } from "./random.ts";
import type { LoraSettings } from "../api/settings.ts";
import type { TrainRequest } from "./request.ts";
import { adapterConfig, declareLora } from "./lora_adapter.ts";
import { bytesOf, valuesOf } from "./_trained_values.ts";
import type { Trainable } from "./trainable.ts";

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
  using source = start === null ? await WeightFiles.open(model) : await openAdapter(start);
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
