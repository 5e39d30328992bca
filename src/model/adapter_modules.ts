/** An adapter's configuration applied to a model: which modules it means, and in what form. */
import { InputError } from "../errors.ts";
import { show } from "../json.ts";
import { ModuleMatcher } from "./module_pattern.ts";
import {
  type AdapterConfig,
  adapterScale,
  isSwitchedOff,
  pythonPattern,
  refuse,
  type TargetModules,
} from "./adapter_config.ts";
import type { ModelConfig } from "./config.ts";
import { type LinearModule, linearModules, linearNames } from "./modules.ts";
import { isSaved, savedModules } from "./saved_modules.ts";

/** What decides the rank and scale of each module. */
export type AdapterForms = Pick<
  AdapterConfig,
  "r" | "lora_alpha" | "use_rslora" | "rank_pattern" | "alpha_pattern"
>;

/** A module's rank, and what its product is multiplied by, where an adapter gives some modules their own. */
export function adapterForm(
  { lora_alpha, use_rslora, alpha_pattern, ...ranks }: AdapterForms,
  path: string,
): { readonly r: number; readonly scale: number } {
  const r = adapterRank(ranks, path);
  const alpha = ownOf("alpha_pattern", alpha_pattern, path) ?? lora_alpha;
  return { r, scale: adapterScale({ r, lora_alpha: alpha, use_rslora }) };
}

/** A module's rank alone. */
export function adapterRank(
  { r, rank_pattern }: Pick<AdapterForms, "r" | "rank_pattern">,
  path: string,
): number {
  return ownOf("rank_pattern", rank_pattern, path) ?? r;
}

/** The largest rank that a module may have; 0 without an adapter. */
export function largestRank(lora: Pick<AdapterForms, "r" | "rank_pattern"> | null): number {
  return lora === null ? 0 : Math.max(lora.r, ...Object.values(lora.rank_pattern ?? {}));
}

type PatternField = "rank_pattern" | "alpha_pattern";
type Patterns = Readonly<Record<string, number>>;

/** What the first pattern says that matches a path's end. */
function ownOf(field: PatternField, patterns: Patterns = {}, path: string): number | undefined {
  return endsOf(field, patterns).find(({ matches }) => matches(path))?.number;
}

/** A pattern of the ends of paths, ready to be matched. */
interface End {
  readonly end: string;
  readonly number: number;
  matches(path: string): boolean;
}

/** By the objects that hold the patterns: every module asks for them. */
const known = new WeakMap<Patterns, readonly End[]>();

function endsOf(field: PatternField, patterns: Patterns): readonly End[] {
  let ends = known.get(patterns);
  if (ends === undefined) {
    const matcher = new ModuleMatcher(() => refuse(field, patterns, QUICK));
    ends = Object.entries(patterns).map(([end, number]) => {
      const pattern = pythonPattern(field, end, (end) => `(.*\\.)?(${end})`);
      return { end, number, matches: (path) => matcher.matches(pattern, path) };
    });
    known.set(patterns, ends);
  }
  return ends;
}

/** What patterns are refused with that keep others waiting. */
const QUICK = "patterns that match in a second all that they match";

/**
 * Checks the patterns that training shall give some modules their own rank or alpha by.
 *
 * @param modules those that get an adapter
 * @throws InputError where a pattern matches none of them
 */
export function checkPatterns(
  modules: readonly LinearModule[],
  { rank_pattern = {}, alpha_pattern = {} }: Pick<AdapterForms, "rank_pattern" | "alpha_pattern">,
): void {
  for (
    const [field, patterns] of [["rank_pattern", rank_pattern], ["alpha_pattern", alpha_pattern]] as const
  ) {
    const stray = endsOf(field, patterns).find(({ matches }) => !modules.some(({ path }) => matches(path)))
      ?.end;
    if (stray === undefined) continue;
    const accepted = "ends of the paths of modules that get an adapter, or regular expressions of them";
    throw new InputError((place) => `${place}: ${show(stray)} matches no module that gets an adapter.`, {
      path: [field],
      value: stray,
      accepted,
    });
  }
}

/**
 * The modules that get an adapter, for training.
 *
 * @param model The decoder
 * @param targets As the user gave them
 * @param saved modules_to_save, which get none
 * @returns In the order of linearModules(), at least one
 * @throws InputError where a name or pattern matches no linear layer of the blocks, or reaches past them (lm_head,
 * embed_tokens), or where modules_to_save leave none or hold one
 */
export function targetedModules(
  model: ModelConfig,
  targets: TargetModules,
  saved: readonly string[] = [],
): LinearModule[] {
  const each = Array.isArray(targets) && targets.length > 0 ? targets.map((name) => [name]) : [targets];
  for (const one of each) {
    if (matchModules(model, one).length > 0) continue;
    const value = Array.isArray(one) ? one[0] ?? [] : one;
    const accepted = `"all-linear" or names out of ${linearNames(model).join(", ")}`;
    throw new InputError(
      (field) => `${field}: ${show(value)} matches no linear layer of the model; give ${accepted}.`,
      { path: ["target_modules"], value, accepted },
    );
  }
  const modules = matchModules(model, targets, saved);
  if (modules.length > 0) return modules;
  throw new InputError((field) => `${field} leaves no module of target_modules to adapt.`, {
    path: ["modules_to_save"],
    value: saved,
    accepted: "names of modules that target_modules does not name alone",
  });
}

/**
 * The modules that a finished adapter has.
 *
 * @param json `adapter_config.json`, of which `config` was read
 * @returns In the order of linearModules()
 * @throws InputError where they cannot be told or had here
 */
export function adaptedModules(
  model: ModelConfig,
  config: AdapterConfig,
  json: Readonly<Record<string, unknown>>,
): LinearModule[] {
  const isExcluded = excludedBy(json.exclude_modules);
  return matchModules(model, config.target_modules, config.modules_to_save)
    .filter((module) => !isLeftOut(json, isExcluded, module));
}

/** What exclude_modules matches. */
function excludedBy(excluded: unknown): (path: string) => boolean {
  if (isSwitchedOff(excluded ?? null)) return () => false;
  const isName = (name: unknown) => typeof name === "string";
  if (isName(excluded)) return matcher("exclude_modules", { pattern: excluded });
  if (Array.isArray(excluded) && excluded.every(isName)) return matcher("exclude_modules", excluded);
  refuse("exclude_modules", excluded, "a list of module names, a regular expression or null");
}

/** Whether exclude_modules or layers_to_transform takes a matched module out again, after PEFT's check_target_module_exists(). */
function isLeftOut(
  json: Readonly<Record<string, unknown>>,
  isExcluded: (path: string) => boolean,
  { path, layer }: LinearModule,
): boolean {
  const { layers_to_transform: layers, layers_pattern: pattern, target_modules } = json;
  if (isExcluded(path)) return true;
  const blocks = path.split(".").at(-4)!; // "layers" of model.layers.0.mlp.up_proj
  const numbers = Array.isArray(layers) ? layers : layers === null || layers === undefined ? [] : [layers];
  if (numbers.length === 0) return false;
  if (!numbers.every(Number.isInteger) || !Array.isArray(target_modules)) {
    refuse("layers_to_transform", layers, "block numbers, beside target_modules that are a list");
  }
  if (
    !isSwitchedOff(pattern ?? null) && pattern !== blocks &&
    !(Array.isArray(pattern) && pattern.includes(blocks))
  ) {
    refuse("layers_pattern", pattern, `null or "${blocks}"`);
  }
  return !target_modules.includes(path) && !numbers.includes(layer);
}

/** The linear layers that match; those outside of the blocks, which PEFT could adapt too, are refused. */
function matchModules(
  model: ModelConfig,
  targets: TargetModules,
  saved: readonly string[] = [],
): LinearModule[] {
  const matches = targets === "all-linear" ? () => true : matcher("target_modules", targets);
  const modules = linearModules(model).filter(({ path }) => matches(path) && !isSaved(path, saved));
  const whole = new Set(
    savedModules(model, { modules_to_save: saved, ensure_weight_tying: false }).weights.map(({ name }) =>
      name
    ),
  );
  const both = modules.find(({ path }) => whole.has(`${path}.weight`));
  if (both) {
    throw new InputError(`${both.path} is a module to save by a part of its name and to adapt by another.`, {
      path: ["modules_to_save"],
      value: saved,
      accepted: "whole names of modules, such as q_proj",
    });
  }
  const { embedding, positions } = model.plan.names;
  const outside = targets !== "all-linear" &&
    ["lm_head", embedding, positions].find((name) => name !== null && matches(name) && !isSaved(name, saved));
  if (!outside) return modules;
  throw new InputError(
    (field) => `${field} names ${outside}, but only the blocks' linear layers can have an adapter.`,
    { path: ["target_modules"], value: outside, accepted: linearNames(model).join(", ") },
  );
}

function matcher(field: string, targets: Exclude<TargetModules, "all-linear">): (path: string) => boolean {
  if (!("pattern" in targets)) {
    const names = new Set(targets);
    return (path) => {
      const parts = path.split(".");
      return parts.some((_, i) => names.has(parts.slice(i).join(".")));
    };
  }
  const pattern = pythonPattern(field, targets.pattern);
  const matcher = new ModuleMatcher(() => refuse(field, targets.pattern, QUICK));
  return (path) => matcher.matches(pattern, path);
}
