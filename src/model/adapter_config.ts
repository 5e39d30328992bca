/** What PEFT's `adapter_config.json` says, as PEFT 0.21 writes it: typed, and as text. */
import { InputError } from "../errors.ts";
import { isQuick, PATTERN } from "./module_pattern.ts";
import { show } from "../json.ts";
import { LINEAR_LAYERS } from "./plan.ts";
import { isModuleName, type SavedNames } from "./saved_modules.ts";

/** The file's name. */
export const CONFIG_FILE = "adapter_config.json";

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
  /** The base model's name on the hub, or its folder; for PEFT and people, never opened here. */
  readonly base_model_name_or_path: string | null;
  /** Its branch, tag or commit on the hub where it is not the main branch. */
  readonly revision?: string | null;
}

/** What the product B A is multiplied by: lora_alpha / r, with rsLoRA lora_alpha / sqrt(r). */
export function adapterScale(
  { r, lora_alpha, use_rslora }: Pick<AdapterConfig, "r" | "lora_alpha" | "use_rslora">,
): number {
  return lora_alpha / (use_rslora ? Math.sqrt(r) : r);
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
    revision: config.revision ?? null,
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

/** Ways of making first factors that leave the base's weights alone: they say nothing of a finished adapter. */
const KEEPING_INITS: ReadonlySet<string> = new Set(["gaussian", "orthogonal", "eva", "mica"]);

/**
 * Checks a parsed `adapter_config.json`.
 *
 * @throws InputError for anything but plain LoRA: another method, or an option, known here or not, that is switched on
 */
export function parseAdapterConfig(json: Readonly<Record<string, unknown>>): AdapterConfig {
  const only = (key: string, allowed: readonly unknown[]): void => {
    if (!allowed.includes(json[key] ?? allowed[0])) refuse(key, json[key], allowed.map(show).join(" or "));
  };
  if (json.peft_type !== "LORA") refuse("peft_type", json.peft_type, `"LORA"`);
  only("task_type", ["CAUSAL_LM"]);
  only("bias", ["none"]);
  only("use_rslora", [false, true]);
  const init = json.init_lora_weights;
  if (typeof init !== "string") only("init_lora_weights", [true, false]);
  else if (!KEEPING_INITS.has(init.toLowerCase())) {
    refuse(
      "init_lora_weights",
      init,
      `true, false or one that leaves the base's weights alone (${
        [...KEEPING_INITS].join(", ")
      }); PEFT makes such an ` +
        "adapter of this one by save_pretrained(folder, path_initial_model_for_weight_conversion=...)",
    );
  }
  for (const [key, value] of Object.entries(json)) {
    if (READ_OR_IGNORED.has(key) || isSwitchedOff(value)) continue;
    refuse(key, value, "absent, null, false or empty: only LoRA and rsLoRA are known here");
  }
  const { r, lora_alpha, lora_dropout = 0, base_model_name_or_path: base, revision } = json;
  if (!isRank(r)) refuse("r", r, RANK);
  if (!isAlpha(lora_alpha)) refuse("lora_alpha", lora_alpha, ALPHA);
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
    ...parsePatterns("rank_pattern", json.rank_pattern, isRank, RANK),
    ...parsePatterns("alpha_pattern", json.alpha_pattern, isAlpha, ALPHA),
    base_model_name_or_path: typeof base === "string" ? base : null,
    ...(typeof revision === "string" ? { revision } : {}),
  };
}

/** Patterns, or names of modules to save, each of which is looked for in every module. */
const MOST_NAMES = 2000;
const MOST_RANK = 65_536;
const MOST_ALPHA = 1_000_000;
const RANK = `a whole number from 1 to ${MOST_RANK}`;
const ALPHA = `a number > 0 and at most ${MOST_ALPHA}`;

function isRank(value: unknown): value is number {
  return Number.isInteger(value) && Number(value) >= 1 && Number(value) <= MOST_RANK;
}

function isAlpha(value: unknown): value is number {
  return typeof value === "number" && value > 0 && value <= MOST_ALPHA;
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
  known: (value: unknown) => value is number,
  accepted: string,
): Partial<AdapterConfig> {
  if (isSwitchedOff(value ?? null)) return {};
  if (typeof value !== "object" || Array.isArray(value)) {
    refuse(field, value, `null, or ${accepted} by patterns`);
  }
  const entries = Object.entries(value!);
  if (entries.length > MOST_NAMES) refuse(field, value, `at most ${MOST_NAMES} patterns`);
  for (const [end, number] of entries) {
    pythonPattern(field, end);
    if (!known(number)) refuse(field, value, `${accepted} by patterns`);
  }
  return { [field]: value };
}

function parseSaved(value: unknown): readonly string[] {
  if (isSwitchedOff(value ?? null)) return [];
  if (Array.isArray(value) && value.length <= MOST_NAMES && value.every(isModuleName)) return value;
  refuse("modules_to_save", value, `a list of at most ${MOST_NAMES} module names or null`);
}

/** Whether an option's value is one that switches it off. */
export function isSwitchedOff(value: unknown): boolean {
  if (value === null || value === false || value === "") return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/**
 * Python's re.fullmatch(): its spellings that JavaScript has not are put into JavaScript's.
 *
 * @param around puts a pattern of ours around it
 */
export function pythonPattern(
  key: string,
  source: string,
  around: (source: string) => string = (source) => source,
): RegExp {
  if (source.length > 4096 || !isQuick(source)) refuse(key, source, PATTERN);
  const [, insensitive = "", rest = ""] = /^(\(\?i\))?(.*)$/s.exec(around(source))!;
  const translated = rest.replaceAll("(?P<", "(?<").replace(/\(\?P=(\w+)\)/g, "\\k<$1>")
    .replaceAll("\\A", "^").replaceAll("\\Z", "$").replace(/(?<!\\)\{,(?=\d+\})/g, "{0,");
  try {
    return new RegExp(`^(?:${translated})$`, insensitive === "" ? "" : "i");
  } catch {
    refuse(key, source, "a regular expression that JavaScript knows too");
  }
}

/** @throws InputError naming the option, its value and what would be accepted */
export function refuse(key: string, value: unknown, accepted: string): never {
  const found = value === undefined ? "is missing" : `is ${show(value)}`;
  throw new InputError((field) => `${field} ${found}, but must be ${accepted}.`, {
    path: [{ file: CONFIG_FILE }, key],
    value,
    accepted,
  });
}
