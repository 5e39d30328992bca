/** The adapter that a job goes on from: a folder, or what an earlier job has learned. */
import { isDeepStrictEqual } from "node:util";
import type { JobRequest } from "../api/job.ts";
import { InputError, within } from "../errors.ts";
import { hasAdapter, readAdapterConfig, resizedVocabulary } from "../model/adapter.ts";
import { targetedModules } from "../model/adapter_modules.ts";
import { readTemplates } from "../preference/template_files.ts";
import { type ModelConfig, readModelConfig } from "../model/config.ts";
import { type LinearModule, linearModules } from "../model/modules.ts";
import { heededNames, type SavedModules, savedModules } from "../model/saved_modules.ts";
import { checkVocabulary } from "../training/trainable.ts";
import { type FileSources, resolveModelConfig, resolveTokenizer } from "./files.ts";
import { type OnDamage, resolveAdapter } from "./folder.ts";
import type { JobStore } from "./store.ts";

const PATH = ["lora", "init_adapter"];

/** Where names are looked up. */
interface Folders extends FileSources {
  readonly state: string;
  readonly store: JobStore;
}

/**
 * The folder that `lora.init_adapter` means.
 *
 * @throws InputError where there is none, or it holds no adapter
 */
export async function resolveInitAdapter(folders: Folders, name: string): Promise<string> {
  const isJob = (id: string) => folders.store.get(id) !== undefined;
  const onDamage: OnDamage = (id, message) => folders.store.warn(id, message);
  const folder = await within(PATH, () => resolveAdapter({ ...folders, onDamage }, name, isJob));
  if (await hasAdapter(folder)) return folder;
  throw new InputError((field) => `${field} ${JSON.stringify(name)} holds no adapter.`, {
    path: PATH,
    value: name,
    accepted: "a folder with adapter_config.json, or a job that trained an adapter",
  });
}

/**
 * Fills in the form of the adapter that a job goes on from (its rank, scale, dropout and modules) and the chat template
 * beside it.
 *
 * @returns the request itself where it names no adapter
 * @throws InputError where the adapter cannot be used with the model, or has another form than the request asks for
 */
export async function withInitAdapter(request: JobRequest, folders: Folders): Promise<JobRequest> {
  const { lora } = request;
  if (lora?.init_adapter == null) return request;
  const folder = await resolveInitAdapter(folders, lora.init_adapter);
  const model = await readModelConfig(
    await within(["model"], () => resolveModelConfig(folders, request.model)),
  );
  const { config, modules, saved } = await readAdapterConfig(folder, model);
  checkVocabulary(await resizedVocabulary(folder, model));
  const heeded = heededNames(model, config);
  const agree = (field: keyof typeof lora, same: boolean, value: unknown) => {
    if (lora[field] === undefined || same) return;
    const [asked, found] = [lora[field], value].map((value) => JSON.stringify(value));
    throw new InputError(
      (place) => `${place} is ${asked}, but ${found} in the adapter that training goes on from.`,
      { path: ["lora", field], value: lora[field], accepted: `${found}, or nothing` },
    );
  };
  const targets = namesOf(model, modules);
  const asked = lora.target_modules === undefined
    ? modules
    : targetedModules(model, lora.target_modules, heeded.modules_to_save);
  const toSave = savedModules(model, { ...heeded, modules_to_save: lora.modules_to_save ?? [] });
  agree("r", lora.r === config.r, config.r);
  agree("use_rslora", lora.use_rslora === config.use_rslora, config.use_rslora);
  agree("alpha", lora.alpha === config.lora_alpha, config.lora_alpha);
  const { rank_pattern, alpha_pattern } = config;
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
    ...request,
    chat_template: await templateOf(request, folder, folders),
    lora: {
      ...lora,
      r: config.r,
      alpha: config.lora_alpha,
      use_rslora: config.use_rslora,
      ...rank_pattern && { rank_pattern: { ...rank_pattern } },
      ...alpha_pattern && { alpha_pattern: { ...alpha_pattern } },
      dropout: lora.dropout ?? config.lora_dropout,
      target_modules: targets,
      modules_to_save: [...heeded.modules_to_save],
      ensure_weight_tying: heeded.ensure_weight_tying,
    },
  };
}

/**
 * The template that a job goes on with: of the adapter's, the one that is asked for by its name or else the default; null
 * where its several are the model's own, of which the rows' tools choose. Text that names none is as it was given.
 *
 * @throws InputError where the adapter has several of its own, and which one the rows take would depend on their tools
 */
async function templateOf(
  { chat_template: asked, model }: JobRequest,
  folder: string,
  folders: Folders,
): Promise<string | null> {
  const templates = await readTemplates(folder);
  if (asked != null) return templates?.get(asked) ?? asked;
  if (templates === null) return null;
  const names = [...templates.keys()];
  if (String(names) === "default") return templates.get("default")!;
  const base = await within(["model"], () => resolveTokenizer(folders, model));
  if (isDeepStrictEqual(await readTemplates(base), templates)) return null;
  const accepted = names.map((name) => `"${name}"`).join(" or ");
  throw new InputError(
    (field) =>
      `${field} is left out, but the adapter that training goes on from has several: give ${accepted}.`,
    { path: ["chat_template"], accepted },
  );
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
