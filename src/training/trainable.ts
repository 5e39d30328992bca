import { join } from "node:path";
import type { Gpu, Tensor, TensorMemory } from "../gpu/mod.ts";
import {
  type Adapter,
  type AdapterConfig,
  adapterScale,
  type AdapterTensors,
  readAdapter,
  targetedModules,
  writeAdapter,
} from "../model/adapter.ts";
import { InputError } from "../errors.ts";
import { type Decoder, loadDecoder, loraSpecs, type OnLoad, withLora } from "../model/decoder.ts";
import { copyModelFiles } from "../model/export.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type LinearModule, linearModules, linearNames, weightSpecs } from "../model/modules.ts";
import { type Parameter, TrainedParameters } from "../model/parameters.ts";
import { Checkpoint, writeSafetensors } from "../model/safetensors.ts";
import { transpose } from "../model/weights.ts";
import { Random } from "./random.ts";
import type { LoraSettings } from "./settings.ts";

/** What a run trains: an adapter on frozen weights, or the weights themselves. */
export interface Trainable {
  readonly decoder: Decoder;
  readonly trained: TrainedParameters;
  /** Writes what was learned as a user would load it: PEFT files, or a whole model folder in f32. */
  save(directory: string): Promise<void>;
  free(): void;
}

/** The files that {@link Trainable.save} writes and a resumed run reads. */
export function savedFiles({ lora }: { readonly lora: LoraSettings | null }): string[] {
  return lora ? ["adapter_config.json", "adapter_model.safetensors"] : ["model.safetensors"];
}

/**
 * A LoRA adapter on a frozen decoder: with PEFT's initialisation (A uniform within 1 / sqrt(inputs), B zero), as the
 * adapter has it that training begins with, or as a checkpoint has it.
 *
 * @param base name of the base model for `adapter_config.json`
 * @param init folder of the adapter to begin with; null for a fresh one
 * @param resume folder of a checkpoint, which goes before `init`; null at a run's beginning
 * @throws {InputError} where target_modules match nothing, or the adapter or checkpoint does not fit
 */
export async function trainableLora(
  gpu: Gpu,
  decoder: Decoder,
  lora: LoraSettings,
  { base, seed, init, resume }: {
    readonly base: string;
    readonly seed: number;
    readonly init: string | null;
    readonly resume: string | null;
  },
): Promise<Trainable> {
  const config = adapterConfig(lora, decoder.config, base);
  const { trained, decoder: adapted } = await gpu.allocate(() => declareLora(gpu, decoder, config));
  try {
    const start = resume ?? init;
    if (start !== null) {
      const adapter = await readAdapter(start, decoder.config);
      if (!resume) checkInit(adapter, config, targetedModules(decoder.config, config.target_modules));
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
  return {
    decoder: adapted,
    trained,
    save: async (directory) => {
      const modules = linearModules(decoder.config).filter(({ path }) =>
        trained.parameters.has(`${path}.lora_A`)
      );
      const factors = modules.flatMap(({ path }) => [`${path}.lora_A`, `${path}.lora_B`]);
      const values = await gpu.read(...factors.map((name) => trained.get(name).value)) as Float32Array[];
      const tensors = modules.map((module, i): AdapterTensors => ({
        module,
        a: values[2 * i]!,
        b: values[2 * i + 1]!,
      }));
      await writeAdapter(directory, { config, tensors });
    },
    free: () => trained.free(),
  };
}

/** The adapter that a job asks for. @param base name of the base model; null where it does not matter */
export function adapterConfig(lora: LoraSettings, model: ModelConfig, base: string | null): AdapterConfig {
  return {
    r: lora.r,
    lora_alpha: lora.alpha,
    lora_dropout: lora.dropout,
    // by name, as PEFT writes "all-linear": what that means differs from family to family
    target_modules: lora.target_modules === "all-linear" ? linearNames(model) : lora.target_modules,
    use_rslora: lora.use_rslora,
    base_model_name_or_path: base,
  };
}

/** A decoder with an adapter to be trained, without numbers in it. */
export function declareLora(
  memory: TensorMemory,
  decoder: Decoder,
  config: AdapterConfig,
): Pick<Trainable, "decoder" | "trained" | "free"> {
  const trained = new TrainedParameters(memory, loraSpecs(decoder.config, config));
  const { lora_dropout } = config;
  const scale = adapterScale(config);
  return {
    decoder: withLora(decoder, (name) => trained.parameters.get(name), scale, lora_dropout),
    trained,
    free: () => trained.free(),
  };
}

/** @throws {InputError} where an adapter is not of the form that the settings ask for */
function checkInit(
  { config, tensors }: Adapter,
  asked: AdapterConfig,
  modules: readonly LinearModule[],
): void {
  const sameModules = tensors.length === modules.length &&
    tensors.every(({ module }, i) => module.path === modules[i]!.path);
  if (sameModules && config.r === asked.r && adapterScale(config) === adapterScale(asked)) return;
  throw new InputError("init_adapter has another r, alpha or target_modules than the job's settings.", {
    field: "lora.init_adapter",
    accepted: "an adapter of the form that the settings have; leave them out to take the adapter's",
  });
}

/**
 * All weights of a model, in f32.
 *
 * @param model the base model's folder
 * @param resume folder of a checkpoint, which is a model folder too; null to begin with the base model
 * @throws as {@link loadDecoder}
 */
export async function trainableWeights(
  gpu: Gpu,
  model: string,
  resume: string | null,
  onLoad: OnLoad,
): Promise<Trainable> {
  const config = await readModelConfig(model);
  using checkpoint = await Checkpoint.open(resume ?? model);
  const { decoder, trained } = await loadDecoder(gpu, checkpoint, config, { trainable: true, onLoad });
  return {
    decoder,
    trained: trained!,
    save: async (directory) => {
      const tensors = weightSpecs(config).map(({ name, shape, transposed }) => ({
        name,
        shape,
        dtype: "F32" as const,
        data: transposed ? readTransposed(gpu, trained!.get(name)) : readRuns(
          gpu,
          [...trained!.parameters.values()].filter((run) => run.name.split("#")[0] === name),
        ),
      }));
      await writeSafetensors(join(directory, "model.safetensors"), tensors);
      await copyModelFiles(model, directory, "float32");
    },
    free: () => trained!.free(),
  };
}

/** Bytes of a weight's runs in order, a piece at a time. */
async function* readRuns(gpu: Gpu, runs: readonly Parameter[]): AsyncGenerator<Uint8Array> {
  for (const { value } of runs) {
    for (const piece of pieces(value)) yield new Uint8Array((await gpu.readF32(piece)).buffer);
  }
}

/** Bytes of a matrix [outputs, inputs] as a file of [inputs, outputs] has it. */
async function* readTransposed(gpu: Gpu, { value }: Parameter): AsyncGenerator<Uint8Array> {
  yield new Uint8Array(transpose(await gpu.readF32(value), value.shape[1]!).buffer);
}

const PIECE_BYTES = 16 * 2 ** 20;

function* pieces(tensor: Tensor): Generator<Tensor> {
  for (let at = 0; at < tensor.bytes; at += PIECE_BYTES) {
    yield { ...tensor, offset: tensor.offset + at, bytes: Math.min(PIECE_BYTES, tensor.bytes - at) };
  }
}
