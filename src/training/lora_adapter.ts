import { tensorBytes, type TensorMemory } from "../gpu/mod.ts";
import type { AdapterConfig, TargetModules } from "../model/adapter_config.ts";
import { adapterForm, adapterRank, targetedModules } from "../model/adapter_modules.ts";
import { InputError } from "../errors.ts";
import { type Decoder, loraSpecs, withLora, withSaved } from "../model/decoder.ts";
import { type DeclaredWeights, declareWeights, type StoredDtype } from "../model/declared_weights.ts";
import type { ModelConfig } from "../model/config.ts";
import { linearNames } from "../model/modules.ts";
import { checkSavedNames, savedModules, type SavedNames } from "../model/saved_modules.ts";
import type { LoraSettings } from "../api/settings.ts";
import type { TrainRequest } from "./request.ts";
import type { Trainable } from "./trainable.ts";

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
function isWrapped({ plan: { names } }: ModelConfig): boolean {
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
