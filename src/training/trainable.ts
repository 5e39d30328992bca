import type { Gpu } from "../gpu/mod.ts";
import type { Decoder } from "../model/decoder.ts";
import { loadDecoder, type OnLoad } from "../model/loading.ts";
import type { Checksums } from "../model/checksums.ts";
import { writeModel } from "../model/export.ts";
import { readModelConfig } from "../model/config.ts";
import { weightSpecs } from "../model/modules.ts";
import type { TrainedParameters } from "../model/parameters.ts";
import { savedAs } from "../model/dtype.ts";
import { WeightFiles } from "../model/safetensors.ts";
import { storedDtypes } from "../model/weights.ts";
import { valuesOf } from "./_trained_values.ts";
import type { LoraSettings, TrainingSettings } from "../api/settings.ts";

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
  using checkpoint = await WeightFiles.open(resume ?? model);
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
