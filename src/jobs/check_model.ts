/** A model's files, looked at before a job is taken. */
import type { LoraSettings } from "../api/settings.ts";
import { within } from "../errors.ts";
import { checkPatterns, targetedModules } from "../model/adapter_modules.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { weightSpecs } from "../model/modules.ts";
import { WeightFiles } from "../model/safetensors.ts";
import { checkSavedNames } from "../model/saved_modules.ts";
import { storedDtype } from "../model/weights.ts";

/**
 * Reads a model's configuration and its weights' headers, and looks for the modules that are to be trained.
 *
 * @throws {InputError} where they cannot be used
 */
export async function checkModel(folder: string, lora: LoraSettings | null): Promise<void> {
  const config = await readModelConfig(folder);
  using checkpoint = await WeightFiles.open(folder);
  for (const spec of weightSpecs(config)) storedDtype(checkpoint, spec);
  // An adapter to go on from has modules of its own.
  if (lora?.init_adapter === null) checkModules(config, lora);
}

/** @throws {InputError} naming the request's field where modules match nothing */
function checkModules(config: ModelConfig, lora: LoraSettings): void {
  within(["lora"], () => {
    const { modules_to_save } = checkSavedNames(config, lora);
    checkPatterns(targetedModules(config, lora.target_modules, modules_to_save), lora);
  });
}
