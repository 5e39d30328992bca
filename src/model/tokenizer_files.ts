/** The small files beside a model's weights: its tokenizer's, its templates and its processors'. */
import { Buffer } from "node:buffer";
import { dirname, join } from "node:path";
import { exists, namesInFolder, readJsonObject, readSmallFile, writeWhole } from "./_files.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";

const TOKENIZER = "tokenizer.json";
const TOKENIZER_CONFIG = "tokenizer_config.json";
const CHAT_TEMPLATE = "chat_template.jinja";
const NAMED_TEMPLATES = "additional_chat_templates";
const FILES: ReadonlySet<string> = new Set([
  TOKENIZER,
  TOKENIZER_CONFIG,
  "special_tokens_map.json",
  "added_tokens.json",
  "tokenizer.model",
]);
const PROCESSORS: ReadonlySet<string> = new Set(["preprocessor_config.json", "processor_config.json"]);

/** Whether a path inside a folder or repository is such a file. */
export function isTokenizerFile(path: string): boolean {
  return FILES.has(path) || PROCESSORS.has(path) || isTemplate(path);
}

function isTemplate(path: string): boolean {
  return path === CHAT_TEMPLATE || path === "chat_template.json" ||
    /^additional_chat_templates\/[^/]+\.jinja$/.test(path);
}

/** What goes in place of a model's own. */
export interface OwnTokenizer {
  /** The one chat template. */
  readonly template?: string | null;
  /** Folder of an adapter, whose tokenizer and templates go before the model's. */
  readonly adapter?: string | null;
}

/**
 * Writes the files of a model's tokenizer, as far as they are there. An adapter's tokenizer replaces the model's; where it
 * has none, what its tokenizer_config.json says is added to the model's. The templates are all of one place: `template`,
 * else the adapter's, else the model's.
 */
export async function copyTokenizer(
  model: string,
  out: string,
  { template = null, adapter = null }: OwnTokenizer = {},
): Promise<void> {
  const replaced = adapter !== null && await exists(join(adapter, TOKENIZER));
  const folders = [model, ...(adapter === null ? [] : [adapter])];
  const sources = await Promise.all(folders.map(async (folder, i) => {
    const names = await namesIn(folder);
    const { chat_template, ...config } = names.includes(TOKENIZER_CONFIG)
      ? await readJsonObject(join(folder, TOKENIZER_CONFIG), asWritten)
      : {};
    const of = (test: (name: string) => boolean) =>
      names.filter((name) => name !== TOKENIZER_CONFIG && test(name)).map((name) => ({ folder, name }));
    return {
      config: replaced && i === 0 ? {} : config,
      tokenizer: replaced && i === 0 ? [] : of((name) => FILES.has(name)),
      processors: of((name) => PROCESSORS.has(name)),
      templates: of(isTemplate),
      chat_template,
    };
  }));
  const { templates, chat_template } = template === null
    ? sources.findLast((source) => source.templates.length > 0 || source.chat_template !== undefined) ??
      sources[0]!
    : { templates: [], chat_template: undefined };
  const files = [
    ...sources.flatMap(({ tokenizer, processors }) => [...tokenizer, ...processors]),
    ...templates,
  ];
  for (const { folder, name } of files) {
    await Deno.mkdir(dirname(join(out, name)), { recursive: true, mode: PRIVATE_FOLDER });
    await writeWhole(join(out, name), [await readSmallFile(join(folder, name))]);
  }
  const config = {
    ...Object.assign({}, ...sources.map(({ config }) => config)),
    ...(chat_template !== undefined && { chat_template }),
  };
  const untouched = template === null && adapter === null;
  if (untouched && Object.keys(config).length > 0) {
    await writeWhole(join(out, TOKENIZER_CONFIG), [await readSmallFile(join(model, TOKENIZER_CONFIG))]);
  } else if (Object.keys(config).length > 0) await writeJson(join(out, TOKENIZER_CONFIG), config);
  if (template !== null) await writeText(join(out, CHAT_TEMPLATE), template);
}

/** Whether an adapter's files of a tokenizer are the model's: byte for byte, or none. */
export async function hasSameTokenizer(model: string, adapter: string): Promise<boolean> {
  const names = await namesIn(adapter);
  if (
    names.some(isTemplate) &&
    String(names.filter(isTemplate)) !== String((await namesIn(model)).filter(isTemplate))
  ) {
    return false;
  }
  for (const name of names) {
    const own = await readSmallFile(join(adapter, name));
    if (!await exists(join(model, name)) || !equal(own, await readSmallFile(join(model, name)))) return false;
  }
  return true;
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && Buffer.compare(a, b) === 0;
}

/** Names of a folder's tokenizer files. */
async function namesIn(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const { name } of Deno.readDir(folder)) {
    if (name !== NAMED_TEMPLATES) names.push(name);
    else for (const inner of await namesInFolder(join(folder, name))) names.push(`${name}/${inner}`);
  }
  return names.filter(isTokenizerFile).sort();
}

/** Keeps a number's own spelling: where 30.0 has become 30, transformers refuses it for want of a float. */
export function asWritten(_key: string, value: unknown, { source }: { readonly source?: string }): unknown {
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return typeof value === "number" && source !== undefined ? rawJSON(source) : value;
}

/** Writes a value as transformers writes its JSON files. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeText(path, JSON.stringify(value, null, 2) + "\n");
}

async function writeText(path: string, text: string): Promise<void> {
  await writeWhole(path, [new TextEncoder().encode(text)]);
}
