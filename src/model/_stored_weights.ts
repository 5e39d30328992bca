/** A model's configuration put right by the weights beside it, which decide what the two disagree about. */
import { InputError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { type Fields, isAbsent, refuse } from "./_fields.ts";
import type { ModelConfig } from "./config.ts";
import { FLOAT_BYTES, isFloatDtype, toF32 } from "./dtype.ts";
import { weightSpecs } from "./modules.ts";
import type { WeightFiles } from "./safetensors.ts";
import { HEAD_WEIGHT } from "./saved_modules.ts";
import { storedName } from "./weights.ts";

/** Ends of names that the tensors of quantised weights have: GPTQ, AWQ, bitsandbytes, compressed-tensors, FP8, HQQ. */
const QUANTISED =
  /[._](qweight|qzeros|g_idx|scales|SCB|absmax|quant_map|quant_state\.\w+|weight_(packed|scale|scale_inv|scale_2|zero_point|shape|format)|input_scale|activation_scale|W_q|weight\._(data|scale))$/;
/** Names of what hears and sees. */
export const SENSES = /vision|visual|image|multi_modal|audio/;
/** Kinds of tensors that a warning names. */
const MOST_KINDS = 10;
/** Buffers that older files hold beside the weights. */
const BUFFERS = /rotary_emb\.inv_freq$|\.attn\.(masked_)?bias$|position_ids$/;

/**
 * Looks at the tensors that a model's folder holds.
 *
 * @param json its config.json, which `config` was read from
 * @returns the configuration as the weights have it, with warnings of what is not heeded
 * @throws InputError where they are quantised, or a head that is not tied is missing
 */
export async function heedWeights(
  config: ModelConfig,
  json: Fields,
  weightFiles: WeightFiles,
): Promise<ModelConfig> {
  const quantised = weightFiles.names().find((name) => QUANTISED.test(name) && !SENSES.test(name));
  if (quantised !== undefined) throw quantisedTensor(quantised, json);
  const warnings = [...config.warnings];
  const heeded = { ...config, tie_word_embeddings: await isTied(config, json, weightFiles, warnings) };

  const left = unusedTensors(heeded, weightFiles);
  if (left.length > 0) {
    const kinds = Map.groupBy(left, (name) => name.split(".").find((part) => part !== "model"));
    const groups = [...kinds.values()].slice(0, MOST_KINDS).map((group) =>
      show(group[0]).slice(1, -1) + (group.length === 1 ? "" : ` and ${group.length - 1} more of its kind`)
    );
    const more = kinds.size > MOST_KINDS ? `; and ${kinds.size - MOST_KINDS} more kinds` : "";
    warnings.push(`The weights hold tensors that are not used here: ${groups.join("; ")}${more}.`);
  }
  const quantization = quantizationIn(json);
  if (quantization !== null) {
    warnings.push(`${quantization}, but the weights are not quantised: they are taken as they are.`);
  }
  return { ...heeded, warnings };
}

/** The beginning of a sentence about a quantization_config that says something; null where there is none. */
export function quantizationIn({ quantization_config: config }: Fields): string | null {
  if (!isObject(config) || Object.keys(config).length === 0) return null;
  return `config.json has a quantization_config (${show(config.quant_method ?? config)})`;
}

/** Tensors of a model's files that the decoder has no use for, such as those of a vision tower. */
export function unusedTensors(config: ModelConfig, weightFiles: WeightFiles): string[] {
  const specs = [{ name: HEAD_WEIGHT }, ...weightSpecs(config)];
  const used = new Set(specs.map((spec) => storedName(weightFiles, spec)));
  return weightFiles.names().filter((name) => !used.has(name) && !BUFFERS.test(name));
}

/** Whether the head is the embedding; transformers 5 asks the same of a file. */
async function isTied(
  config: ModelConfig,
  json: Fields,
  weightFiles: WeightFiles,
  warnings: string[],
): Promise<boolean> {
  const [embedding, head] = [`${config.plan.names.embedding}.weight`, HEAD_WEIGHT]
    .map((name) => storedName(weightFiles, { name })) as [string, string];
  const { name, value } = tyingFlag(json);
  if (!weightFiles.has(head)) {
    if (config.tie_word_embeddings) return true;
    refuse(name, value, `true, as the weights hold no ${HEAD_WEIGHT}`);
  }
  if (!config.tie_word_embeddings) return false;
  if (!weightFiles.has(embedding) || await isSame(weightFiles, embedding, head)) return true;
  warnings.push(
    `${name} is ${
      value === true ? "true" : "left out, which stands for true"
    }, but the weights hold a ${head} that ` +
      "is not the embedding: this head is used, as transformers 5 does, and the two are not tied.",
  );
  return false;
}

/** Where a file says whether they are tied, and what; of a wrapped model the text's own word goes first. */
function tyingFlag(
  { text_config: text, ...json }: Fields,
): { readonly name: string; readonly value: unknown } {
  const name = "tie_word_embeddings";
  return isObject(text) && !isAbsent(text[name])
    ? { name: `text_config.${name}`, value: text[name] }
    : { name, value: json[name] };
}

/** Answers by the tensors' place and the time of their file: a large table takes a second to compare. */
const compared = new Map<string, boolean>();
/** Bytes of one comparison, between which others have the thread. */
const PIECE_BYTES = 4 * 2 ** 20;

/** Whether two tables hold the same numbers. */
async function isSame(weightFiles: WeightFiles, one: string, other: string): Promise<boolean> {
  const [a, b] = [weightFiles.info(one), weightFiles.info(other)];
  if (String(a.shape) !== String(b.shape) || !isFloatDtype(a.dtype) || !isFloatDtype(b.dtype)) return false;
  const places = [a, b].map(async ({ file, begin }) => [file, begin, (await Deno.stat(file)).mtime]);
  const key = JSON.stringify(await Promise.all(places));
  const known = compared.get(key);
  if (known !== undefined) return known;
  const [rows, columns = 1] = a.shape as [number, number?];
  const step = Math.max(1, Math.floor(PIECE_BYTES / (columns * FLOAT_BYTES[a.dtype])));
  let same = true;
  for (let row = 0; same && row < rows; row += step) {
    const count = Math.min(step, rows - row);
    const x = toF32(await weightFiles.readRows(one, row, count), a.dtype);
    const y = toF32(await weightFiles.readRows(other, row, count), b.dtype);
    same = x.every((value, i) => value === y[i]);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  compared.set(key, same);
  return same;
}

function quantisedTensor(name: string, { quantization_config: config }: Fields): InputError {
  const method = isObject(config) && typeof config.quant_method === "string"
    ? ` by ${config.quant_method}`
    : "";
  return new InputError(`The weights are quantised${method}: they hold ${name}.`, {
    path: [name],
    value: name,
    accepted: "weights that are not quantised (F32, F16 or BF16)",
  });
}
