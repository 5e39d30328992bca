/** Modules that an adapter holds in full beside its factors, as PEFT's modules_to_save names them. */
import { InputError } from "../errors.ts";
import { show } from "../json.ts";
import type { ModelConfig } from "./config.ts";
import { weightSpecs } from "./modules.ts";
import type { WeightSpec } from "./weights.ts";

/** How an adapter's configuration names them. */
export interface SavedNames {
  /** Ends of module paths: `norm` names `model.norm`, and `model.layers.0.input_layernorm` too. */
  readonly modules_to_save: readonly string[];
  /** Whether a head that is tied to the embedding stays so where one of the two is saved. */
  readonly ensure_weight_tying: boolean;
}

/** The weights of saved modules. */
export interface SavedModules {
  /** Each once, in the order of weightSpecs(); after them the head of a model that ties it, where it has come apart. */
  readonly weights: readonly WeightSpec[];
  /** Whether the head is the saved embedding; files hold it under both names. */
  readonly tied: boolean;
  /** Whether the head and the embedding, which are one in the base model, have come apart. */
  readonly untied: boolean;
}

/** The head of every family. */
export const HEAD_MODULE = "lm_head";
/** Its weight. */
export const HEAD_WEIGHT = `${HEAD_MODULE}.weight`;

/** Names by which PEFT knows a vocabulary table, and heeds ensure_weight_tying. */
const TABLES: ReadonlySet<string> = new Set(["embed_tokens", "lm_head"]);

/**
 * The weights that an adapter saves; none of a name that matches nothing, as in PEFT.
 *
 * @param model The base model
 */
export function savedModules(
  model: ModelConfig,
  { modules_to_save: names, ensure_weight_tying }: SavedNames,
): SavedModules {
  const { specs, embedding, head } = savableWeights(model);
  const named = specs.filter(({ name }) => names.some((end) => isNamed(name, end)));
  const tied = ensure_weight_tying && model.tie_word_embeddings &&
    names.some((name) => TABLES.has(name.slice(name.lastIndexOf(".") + 1)));
  const others = named.filter((spec) => spec !== embedding && spec !== head);
  if (tied) return { weights: [embedding, ...others], tied, untied: false };
  return { weights: named, tied, untied: model.tie_word_embeddings && others.length < named.length };
}

/**
 * Checks the names that training shall save, and makes them say what PEFT reads out of them.
 *
 * @throws InputError where a name matches nothing, or tying is asked for where there is nothing to tie
 */
export function checkSavedNames(
  model: ModelConfig,
  { modules_to_save, ensure_weight_tying }: SavedNames,
): SavedNames {
  const asked = { modules_to_save, ensure_weight_tying };
  const { specs, embedding, head } = savableWeights(model);
  for (const name of asked.modules_to_save) {
    if (isModuleName(name) && specs.some((spec) => isNamed(spec.name, name))) continue;
    const ends = specs.map(({ name }) => name.split(".").at(-2));
    const accepted = `names out of ${[...new Set(ends)].join(", ")}`;
    throw new InputError(
      (field) => `${field}: ${show(name)} matches no module of the model; give ${accepted}.`,
      { path: ["modules_to_save"], value: name, accepted },
    );
  }
  if (!asked.ensure_weight_tying) return asked;
  const names = asked.modules_to_save;
  const tables = [embedding, head].some((spec) => names.some((name) => isNamed(spec.name, name)));
  if (!tables || !model.tie_word_embeddings) {
    throw new InputError("ensure_weight_tying is true, but modules_to_save names no tied table.", {
      path: ["ensure_weight_tying"],
      value: true,
      accepted:
        "false; true where the model ties its head to the embedding and modules_to_save names one of them",
    });
  }
  const known = savedModules(model, asked).tied;
  return known ? asked : { ...asked, modules_to_save: [...names, "lm_head"] };
}

/** The names of an adapter that say anything of this model: what training may go on with. */
export function heededNames(model: ModelConfig, found: SavedNames): SavedNames {
  const { specs } = savableWeights(model);
  return {
    modules_to_save: found.modules_to_save.filter((end) => specs.some(({ name }) => isNamed(name, end))),
    ensure_weight_tying: savedModules(model, found).tied,
  };
}

/** Every weight of a model that an adapter is merged into; tables that it has resized in their new shape. */
export function mergedWeights(model: ModelConfig, saved: SavedModules | undefined): readonly WeightSpec[] {
  const specs = saved?.untied ? savableWeights(model).specs : weightSpecs(model);
  const own = new Map(saved?.weights.map((spec) => [spec.name, spec]));
  return specs.map((spec) => own.get(spec.name) ?? spec);
}

/** Whether PEFT leaves a module without factors because it, or one that holds it, is saved by that name. */
export function isSaved(path: string, names: readonly string[]): boolean {
  return names.some((name) => `.${path}.`.includes(`.${name}.`));
}

/** Whether a name is plain: PEFT takes it for the end of a path in one place, for a regular expression in another. */
export function isModuleName(name: unknown): name is string {
  return typeof name === "string" && /^[\w.]+$/.test(name);
}

/** Whether a weight's module, or one that holds it, has a path with that end. */
function isNamed(weight: string, end: string): boolean {
  const parts = weight.split(".").slice(0, -1);
  return parts.some((_, i) => parts.slice(0, i + 1).join(".").endsWith(end));
}

/** Every weight that may be saved: the head too where it is tied. */
function savableWeights(model: ModelConfig) {
  const own = weightSpecs(model);
  const embedding = own.find(({ name }) => name === `${model.plan.names.embedding}.weight`)!;
  const head = own.find(({ name }) => name === HEAD_WEIGHT) ??
    { ...embedding, name: HEAD_WEIGHT, tied_to: embedding.name };
  return { specs: own.includes(head) ? own : [...own, head], embedding, head };
}
