/** LoRA adapters in PEFT's files: `adapter_config.json` beside `adapter_model.safetensors`, as PEFT 0.21 writes them. */
import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import { show } from "../json.ts";
import { exists, readJsonObject, writeWhole } from "./_files.ts";
import type { ModelConfig } from "./config.ts";
import { LINEAR_LAYERS } from "./families/family.ts";
import { type FloatDtype, fromF32 } from "./dtype.ts";
import { type LinearModule, linearModules, linearNames } from "./modules.ts";
import { Checkpoint, type TensorSource, writeSafetensors } from "./safetensors.ts";
import {
  HEAD_WEIGHT,
  isModuleName,
  isSaved,
  type SavedModules,
  savedModules,
  type SavedNames,
} from "./saved_modules.ts";
import { adapterName, type WeightSpec } from "./weights.ts";

const CONFIG_FILE = "adapter_config.json";
const WEIGHTS_FILE = "adapter_model.safetensors";

/**
 * Which modules have an adapter: names that match by their whole path or its end, every linear layer of the blocks,
 * or a regular expression (Python's, as PEFT has it) that must match the whole path.
 */
export type TargetModules = readonly string[] | "all-linear" | { readonly pattern: string };

/** The part of `adapter_config.json` that enters the mathematics: W x + scale B A dropout(x), see {@link adapterScale}. */
export interface AdapterConfig extends SavedNames {
  readonly r: number;
  readonly lora_alpha: number;
  /** Only in training. */
  readonly lora_dropout: number;
  readonly target_modules: TargetModules;
  /** Whether the scale is lora_alpha / sqrt(r) (rsLoRA, arXiv 2312.03732). */
  readonly use_rslora: boolean;
  /** Ranks of modules that have another than r, by regular expressions of their paths' ends; the first counts. */
  readonly rank_pattern?: Readonly<Record<string, number>>;
  /** The same of lora_alpha. */
  readonly alpha_pattern?: Readonly<Record<string, number>>;
  /** Where the base model came from; for people, never opened. */
  readonly base_model_name_or_path: string | null;
}

/** What the product B A is multiplied by: lora_alpha / r, with rsLoRA lora_alpha / sqrt(r). */
export function adapterScale(
  { r, lora_alpha, use_rslora }: Pick<AdapterConfig, "r" | "lora_alpha" | "use_rslora">,
): number {
  return lora_alpha / (use_rslora ? Math.sqrt(r) : r);
}

/** A module's rank, and what its product is multiplied by, where an adapter gives some modules their own. */
export function adapterForm(
  { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern }: Omit<AdapterConfig, keyof SavedNames>,
  path: string,
): { readonly r: number; readonly scale: number } {
  const own = (field: string, patterns: Readonly<Record<string, number>> = {}) =>
    Object.entries(patterns).find(([end]) => pythonPattern(field, `(.*\\.)?(${end})`).test(path))?.[1];
  const rank = own("rank_pattern", rank_pattern) ?? r;
  const alpha = own("alpha_pattern", alpha_pattern) ?? lora_alpha;
  return { r: rank, scale: adapterScale({ r: rank, lora_alpha: alpha, use_rslora }) };
}

/** The factors of one module's adapter; r and scale are as {@link adapterForm} has them. */
export interface AdapterTensors {
  readonly module: LinearModule;
  /** [r, inputs] */
  readonly a: Float32Array;
  /** [outputs, r] */
  readonly b: Float32Array;
}

/** An adapter as it was read. */
export interface Adapter {
  readonly config: AdapterConfig;
  /** In the order of linearModules(). */
  readonly tensors: readonly AdapterTensors[];
  /** Modules that it replaces; their weights stay in its file, which {@link openAdapter} opens. */
  readonly saved: SavedModules;
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
      `target_modules: ${show(value)} matches no linear layer of the model; give ${accepted}.`,
      { field: "target_modules", value, accepted },
    );
  }
  const modules = matchModules(model, targets, saved);
  if (modules.length > 0) return modules;
  throw new InputError("modules_to_save leaves no module of target_modules to adapt.", {
    field: "modules_to_save",
    value: saved,
    accepted: "names of modules that target_modules does not name alone",
  });
}

/** Whether a folder holds an adapter (and not, say, full weights). */
export async function hasAdapter(dir: string): Promise<boolean> {
  return await exists(join(dir, CONFIG_FILE));
}

/**
 * Reads an adapter's configuration alone.
 *
 * @param dir Folder with `adapter_config.json`
 * @param model The base model's configuration
 * @returns It, and the modules that it adapts, in the order of linearModules()
 * @throws InputError where the file is missing or malformed, or the adapter is no plain LoRA
 */
export async function readAdapterConfig(
  dir: string,
  model: ModelConfig,
): Promise<Omit<Adapter, "tensors"> & { readonly modules: readonly LinearModule[] }> {
  const json = await readJsonObject(join(dir, CONFIG_FILE));
  const config = parseAdapterConfig(json);
  const modules = matchModules(model, config.target_modules, config.modules_to_save)
    .filter((module) => !isLeftOut(json, module));
  return { config, modules, saved: savedModules(model, config) };
}

/** Opens the file of an adapter's weights. @throws InputError where there is none that can be read */
export async function openAdapter(dir: string): Promise<Checkpoint> {
  if (!await exists(join(dir, WEIGHTS_FILE)) && await exists(join(dir, "adapter_model.bin"))) {
    throw new InputError(
      `${basename(dir)} holds its adapter as adapter_model.bin, which must be converted first.`,
      {
        field: WEIGHTS_FILE,
        value: "adapter_model.bin",
        accepted: WEIGHTS_FILE,
      },
    );
  }
  return await Checkpoint.openFile(join(dir, WEIGHTS_FILE));
}

/**
 * Reads an adapter and checks that its tensors are those that its configuration names for this model: none missing,
 * none besides, every one finite and of the right shape.
 *
 * @param dir Folder with `adapter_config.json` and `adapter_model.safetensors`
 * @param model The base model's configuration
 * @returns The adapter with its factors as f32
 * @throws InputError where a file is missing or malformed, the adapter is no plain LoRA, or it does not fit the model
 */
export async function readAdapter(dir: string, model: ModelConfig): Promise<Adapter> {
  const { config, modules, saved } = await readAdapterConfig(dir, model);
  using weights = await openAdapter(dir);
  const inFull = saved.tied ? [...saved.weights, headOf(saved)] : saved.weights;
  const expected = new Set([
    ...modules.flatMap(({ path }) => [tensorName(path, "A"), tensorName(path, "B")]),
    ...inFull.map(({ name }) => adapterName(name)),
  ]);
  const stranger = weights.names().find((name) => !expected.has(name));
  if (stranger !== undefined || expected.size === 0) {
    const name = stranger ?? "no tensor";
    throw new InputError(
      `${WEIGHTS_FILE} holds ${name}, which its target_modules and modules_to_save do not name in this model.`,
      {
        field: WEIGHTS_FILE,
        value: name,
        accepted:
          "lora_A.weight and lora_B.weight of every targeted linear layer, and the saved modules' weights",
      },
    );
  }
  const read = async (name: string, shape: readonly number[]): Promise<Float32Array> => {
    weights.expect(name, shape);
    const values = await weights.readF32(name);
    const bad = values.findIndex((value) => !Number.isFinite(value));
    if (bad === -1) return values;
    throw new InputError(`${name} holds ${values[bad]} at element ${bad}.`, {
      field: name,
      value: `${values[bad]}`,
      accepted: "finite numbers",
    });
  };
  for (const { name, shape } of inFull) weights.expect(adapterName(name), shape);
  const tensors: AdapterTensors[] = [];
  for (const module of modules) {
    const { r } = adapterForm(config, module.path);
    const a = await read(tensorName(module.path, "A"), [r, module.inputs]);
    const b = await read(tensorName(module.path, "B"), [module.outputs, r]);
    tensors.push({ module, a, b });
  }
  return { config, tensors, saved };
}

/** The head's weight where it is the saved embedding. */
function headOf({ weights }: SavedModules): WeightSpec {
  return { ...weights[0]!, name: HEAD_WEIGHT };
}

/**
 * Writes an adapter as PEFT does; each of the two files appears whole or not at all.
 *
 * @param dir An existing folder
 * @param adapter What readAdapter() would give back
 * @param dtype How the factors are stored
 * @param weightOf A saved weight by its own name, as the file shall hold it; asked twice where the head is tied
 * @throws RangeError where a factor is not of its module's size
 */
export async function writeAdapter(
  dir: string,
  adapter: Adapter,
  dtype: FloatDtype = "F32",
  weightOf?: (spec: WeightSpec) => TensorSource,
): Promise<void> {
  const { config, tensors, saved } = adapter;
  const sources = tensors.flatMap(({ module: { path, inputs, outputs }, a, b }): TensorSource[] => {
    const { r } = adapterForm(config, path);
    return [
      { name: tensorName(path, "A"), dtype, shape: [r, inputs], data: fromF32(a, dtype) },
      { name: tensorName(path, "B"), dtype, shape: [outputs, r], data: fromF32(b, dtype) },
    ];
  });
  for (const spec of saved.weights) sources.push({ ...weightOf!(spec), name: adapterName(spec.name) });
  if (saved.tied) sources.push({ ...weightOf!(saved.weights[0]!), name: adapterName(HEAD_WEIGHT) });
  await writeSafetensors(join(dir, WEIGHTS_FILE), sources);
  const text = formatAdapterConfig(adapter.config, tensors.some(({ module }) => module.transposed));
  await writeWhole(join(dir, CONFIG_FILE), [new TextEncoder().encode(text)]);
}

/**
 * The text of `adapter_config.json`: every key that PEFT 0.21 writes, sorted as it sorts them.
 *
 * "all-linear" becomes the seven names that it means, as PEFT does for all but small models.
 *
 * @param transposed whether the base model's files hold the adapted weights as [inputs, outputs]
 */
export function formatAdapterConfig(config: AdapterConfig, transposed = false): string {
  const { target_modules: targets } = config;
  const json = {
    alora_invocation_tokens: null,
    alpha_pattern: config.alpha_pattern ?? {},
    arrow_config: null,
    auto_mapping: null,
    base_model_name_or_path: config.base_model_name_or_path,
    bias: "none",
    corda_config: null,
    ensure_weight_tying: config.ensure_weight_tying,
    eva_config: null,
    exclude_modules: null,
    fan_in_fan_out: transposed,
    inference_mode: true,
    init_lora_weights: true,
    kasa_config: null,
    layer_replication: null,
    layers_pattern: null,
    layers_to_transform: null,
    loftq_config: {},
    lora_alpha: config.lora_alpha,
    lora_bias: false,
    lora_dropout: config.lora_dropout,
    lora_ga_config: null,
    megatron_config: null,
    megatron_core: "megatron.core",
    modules_to_save: config.modules_to_save.length > 0 ? config.modules_to_save : null,
    monteclora_config: null,
    peft_type: "LORA",
    peft_version: "0.21.2",
    qalora_group_size: 16,
    r: config.r,
    rank_pattern: config.rank_pattern ?? {},
    revision: null,
    target_modules: targets === "all-linear"
      ? LINEAR_LAYERS
      : "pattern" in targets
      ? targets.pattern
      : targets,
    target_parameters: null,
    task_type: "CAUSAL_LM",
    trainable_token_indices: null,
    use_bdlora: null,
    use_dora: false,
    use_qalora: false,
    use_rslora: config.use_rslora,
    velora_config: null,
  };
  return JSON.stringify(json, null, 2);
}

/** Options that say nothing about what a finished adapter computes, or that are read by themselves. */
const READ_OR_IGNORED = new Set([
  "alpha_pattern",
  "auto_mapping",
  "base_model_name_or_path",
  "bias",
  "ensure_weight_tying",
  "eva_config",
  "exclude_modules",
  "fan_in_fan_out", // PEFT itself puts it right by the kind of layer
  "inference_mode",
  "init_lora_weights",
  "layers_pattern",
  "layers_to_transform",
  "lora_alpha",
  "lora_dropout",
  "megatron_core",
  "modules_to_save",
  "peft_type",
  "peft_version",
  "qalora_group_size",
  "r",
  "rank_pattern",
  "revision",
  "runtime_config",
  "target_modules",
  "task_type",
  "use_rslora",
]);

/**
 * Checks a parsed `adapter_config.json`.
 *
 * @throws InputError for anything but plain LoRA: another method, or an option, known here or not, that is switched on
 */
function parseAdapterConfig(json: Readonly<Record<string, unknown>>): AdapterConfig {
  const only = (key: string, allowed: readonly unknown[]): void => {
    if (!allowed.includes(json[key] ?? allowed[0])) refuse(key, json[key], allowed.map(show).join(" or "));
  };
  if (json.peft_type !== "LORA") refuse("peft_type", json.peft_type, `"LORA"`);
  only("task_type", ["CAUSAL_LM"]);
  only("bias", ["none"]);
  only("use_rslora", [false, true]);
  // The others (PiSSA, OLoRA, ...) also change the base model's weights when PEFT loads them.
  only("init_lora_weights", [true, false, "gaussian", "orthogonal", "eva"]);
  for (const [key, value] of Object.entries(json)) {
    if (READ_OR_IGNORED.has(key) || isSwitchedOff(value)) continue;
    refuse(key, value, "absent, null, false or empty: only LoRA and rsLoRA are known here");
  }
  const { r, lora_alpha, lora_dropout = 0, base_model_name_or_path: base } = json;
  if (typeof r !== "number" || !Number.isInteger(r) || r < 1) refuse("r", r, "a whole number >= 1");
  if (typeof lora_alpha !== "number" || !(lora_alpha > 0)) refuse("lora_alpha", lora_alpha, "a number > 0");
  if (typeof lora_dropout !== "number" || !(lora_dropout >= 0 && lora_dropout < 1)) {
    refuse("lora_dropout", lora_dropout, "a number from 0 to less than 1");
  }
  return {
    r,
    lora_alpha,
    lora_dropout,
    target_modules: parseTargets(json.target_modules),
    use_rslora: json.use_rslora === true,
    modules_to_save: parseSaved(json.modules_to_save),
    ensure_weight_tying: json.ensure_weight_tying === true,
    ...parsePatterns("rank_pattern", json.rank_pattern, Number.isInteger, "whole numbers >= 1"),
    ...parsePatterns("alpha_pattern", json.alpha_pattern, Number.isFinite, "numbers > 0"),
    base_model_name_or_path: typeof base === "string" ? base : null,
  };
}

function parseTargets(value: unknown): TargetModules {
  if (typeof value === "string") {
    return value.toLowerCase() === "all-linear" ? "all-linear" : { pattern: value };
  }
  if (Array.isArray(value) && value.length > 0 && value.every((name) => typeof name === "string")) {
    return value;
  }
  refuse("target_modules", value, `a list of module names, "all-linear" or a regular expression`);
}

/** @returns the field where it says anything */
function parsePatterns(
  field: "rank_pattern" | "alpha_pattern",
  value: unknown,
  known: (value: unknown) => boolean,
  accepted: string,
): Partial<AdapterConfig> {
  if (isSwitchedOff(value ?? null)) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    refuse(field, value, `null or ${accepted} by patterns`);
  }
  for (const [end, number] of Object.entries(value!)) {
    pythonPattern(field, end);
    if (!known(number) || !(number > 0)) refuse(field, value, `${accepted} by patterns`);
  }
  return { [field]: value };
}

function parseSaved(value: unknown): readonly string[] {
  if (isSwitchedOff(value ?? null)) return [];
  if (Array.isArray(value) && value.every(isModuleName)) return value;
  refuse("modules_to_save", value, "a list of module names or null");
}

/** Whether an option's value is one that switches it off. */
function isSwitchedOff(value: unknown): boolean {
  if (value === null || value === false || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** Whether exclude_modules or layers_to_transform takes a matched module out again, after PEFT's check_target_module_exists(). */
function isLeftOut(json: Readonly<Record<string, unknown>>, { path, layer }: LinearModule): boolean {
  const { exclude_modules: excluded, layers_to_transform: layers, layers_pattern: pattern, target_modules } =
    json;
  if (typeof excluded === "string" && excluded !== "") {
    if (pythonPattern("exclude_modules", excluded).test(path)) return true;
  } else if (Array.isArray(excluded)) {
    if (excluded.some((name) => path === name || path.endsWith(`.${name}`))) return true;
  } else if (!isSwitchedOff(excluded ?? null)) {
    refuse("exclude_modules", excluded, "a list of module names, a regular expression or null");
  }
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
  const matches = targets === "all-linear" ? () => true : matcher(targets);
  const modules = linearModules(model).filter(({ path }) => matches(path) && !isSaved(path, saved));
  const whole = new Set(
    savedModules(model, { modules_to_save: saved, ensure_weight_tying: false }).weights.map(({ name }) =>
      name
    ),
  );
  const both = modules.find(({ path }) => whole.has(`${path}.weight`));
  if (both) {
    throw new InputError(`${both.path} is a module to save by a part of its name and to adapt by another.`, {
      field: "modules_to_save",
      value: saved,
      accepted: "whole names of modules, such as q_proj",
    });
  }
  const { embedding, positions } = model.traits.names;
  const outside = targets !== "all-linear" &&
    ["lm_head", embedding, positions].find((name) => name !== null && matches(name) && !isSaved(name, saved));
  if (!outside) return modules;
  throw new InputError(
    `target_modules names ${outside}, but only the blocks' linear layers can have an adapter.`,
    {
      field: "target_modules",
      value: outside,
      accepted: linearNames(model).join(", "),
    },
  );
}

function matcher(targets: Exclude<TargetModules, "all-linear">): (path: string) => boolean {
  if (!("pattern" in targets)) {
    return (path) => targets.some((name) => path === name || path.endsWith(`.${name}`));
  }
  const pattern = pythonPattern("target_modules", targets.pattern);
  return (path) => pattern.test(path);
}

/** Python's re.fullmatch(): its spellings that JavaScript has not are put into JavaScript's. */
function pythonPattern(key: string, source: string): RegExp {
  const [, insensitive = "", rest = ""] = /^(\(\?i\))?(.*)$/s.exec(source)!;
  const translated = rest.replaceAll("(?P<", "(?<").replace(/\(\?P=(\w+)\)/g, "\\k<$1>")
    .replaceAll("\\A", "^").replaceAll("\\Z", "$");
  try {
    return new RegExp(`^(?:${translated})$`, insensitive === "" ? "" : "i");
  } catch {
    refuse(key, source, "a regular expression that JavaScript knows too");
  }
}

function tensorName(path: string, factor: "A" | "B"): string {
  return adapterName(`${path}.lora_${factor}.weight`);
}

function refuse(key: string, value: unknown, accepted: string): never {
  const found = value === undefined ? "is missing" : `is ${show(value)}`;
  throw new InputError(`${CONFIG_FILE}: ${key} ${found}, but must be ${accepted}.`, {
    field: `${CONFIG_FILE}: ${key}`,
    value,
    accepted,
  });
}
