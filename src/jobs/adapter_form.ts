/** The form of an adapter that a job goes on from. */
import { isDeepStrictEqual } from "node:util";
import type { JobRequest } from "../api/job.ts";
import { InputError } from "../errors.ts";
import { readAdapterConfig, resizedVocabulary } from "../model/adapter.ts";
import { targetedModules } from "../model/adapter_modules.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type LinearModule, linearModules } from "../model/modules.ts";
import { heededNames, type SavedModules, savedModules } from "../model/saved_modules.ts";
import { checkVocabulary } from "../training/trainable_lora.ts";

/** What a request says of LoRA. */
export type LoraRequest = NonNullable<JobRequest["lora"]>;

/**
 * Fills in an adapter's rank, scale, dropout and modules.
 *
 * @param model its base's folder
 * @param adapter its folder
 * @throws {InputError} where it cannot be used with the model, or has another form than the request asks for
 */
export async function withFormOf(adapter: string, model: string, lora: LoraRequest): Promise<LoraRequest> {
  const config = await readModelConfig(model);
  const { config: form, modules, saved } = await readAdapterConfig(adapter, config);
  checkVocabulary(await resizedVocabulary(adapter, config));
  const heeded = heededNames(config, form);
  const agree = (field: keyof typeof lora, same: boolean, value: unknown) => {
    if (lora[field] === undefined || same) return;
    const [asked, found] = [lora[field], value].map((value) => JSON.stringify(value));
    throw new InputError(
      (place) => `${place} is ${asked}, but ${found} in the adapter that training goes on from.`,
      { path: ["lora", field], value: lora[field], accepted: `${found}, or nothing` },
    );
  };
  const targets = namesOf(config, modules);
  const asked = lora.target_modules === undefined
    ? modules
    : targetedModules(config, lora.target_modules, heeded.modules_to_save);
  const toSave = savedModules(config, { ...heeded, modules_to_save: lora.modules_to_save ?? [] });
  agree("r", lora.r === form.r, form.r);
  agree("use_rslora", lora.use_rslora === form.use_rslora, form.use_rslora);
  agree("alpha", lora.alpha === form.lora_alpha, form.lora_alpha);
  const { rank_pattern, alpha_pattern } = form;
  agree("rank_pattern", isDeepStrictEqual(lora.rank_pattern, rank_pattern ?? {}), rank_pattern ?? {});
  agree("alpha_pattern", isDeepStrictEqual(lora.alpha_pattern, alpha_pattern ?? {}), alpha_pattern ?? {});
  agree(
    "modules_to_save",
    String(namesOfWeights(toSave)) === String(namesOfWeights(saved)),
    heeded.modules_to_save,
  );
  agree(
    "ensure_weight_tying",
    lora.ensure_weight_tying === heeded.ensure_weight_tying,
    heeded.ensure_weight_tying,
  );
  agree("target_modules", String(pathsOf(asked)) === String(pathsOf(modules)), targets);
  return {
    ...lora,
    r: form.r,
    alpha: form.lora_alpha,
    use_rslora: form.use_rslora,
    ...rank_pattern && { rank_pattern: { ...rank_pattern } },
    ...alpha_pattern && { alpha_pattern: { ...alpha_pattern } },
    dropout: lora.dropout ?? form.lora_dropout,
    target_modules: targets,
    modules_to_save: [...heeded.modules_to_save],
    ensure_weight_tying: heeded.ensure_weight_tying,
  };
}

/** Modules by the last parts of their paths where those say all, else by their paths. */
function namesOf(model: ModelConfig, modules: readonly LinearModule[]): string[] {
  const lastPart = ({ path }: LinearModule) => path.slice(path.lastIndexOf(".") + 1);
  const names = [...new Set(modules.map(lastPart))];
  const meant = linearModules(model).filter((module) => names.includes(lastPart(module)));
  return meant.length === modules.length ? names : pathsOf(modules);
}

function namesOfWeights({ weights }: SavedModules): string[] {
  return weights.map(({ name }) => name);
}

function pathsOf(modules: readonly LinearModule[]): string[] {
  return modules.map(({ path }) => path);
}
