/** The chat templates that a folder keeps. */
import { join } from "node:path";
import { isObject } from "../json.ts";
import { namesInFolder, readSmallText } from "../model/_files.ts";
import { readJson, readText } from "./_small_files.ts";

/** Folder of templates beside the default one, NAME.jinja each. */
const NAMED_TEMPLATES = "additional_chat_templates";

/**
 * The templates that a folder keeps, be it a model's or an adapter's, by name; null where there is none. In transformers'
 * order: files of their own, tokenizer_config.json, chat_template.json.
 */
export async function readTemplates(dir: string): Promise<ReadonlyMap<string, string> | null> {
  const files = new Map<string, string>();
  const whole = await readText(dir, "chat_template.jinja");
  if (whole !== null) files.set("default", whole);
  for (const name of await namesIn(join(dir, NAMED_TEMPLATES))) {
    files.set(name, await readSmallText(join(dir, NAMED_TEMPLATES, `${name}.jinja`)));
  }
  if (files.size > 0) return files;
  return templatesOf((await readJson(dir, "tokenizer_config.json"))?.chat_template) ??
    templatesOf((await readJson(dir, "chat_template.json"))?.chat_template);
}

/** Names of a folder's templates; none where there is no such folder. */
async function namesIn(folder: string): Promise<string[]> {
  const names = await namesInFolder(folder);
  return names.filter((name) => name.endsWith(".jinja")).map((name) => name.slice(0, -".jinja".length))
    .sort();
}

/**
 * Templates by name, from the forms that transformers has kept them in: one source, or a list of names with theirs.
 *
 * @returns null where the value is neither
 */
export function templatesOf(value: unknown): ReadonlyMap<string, string> | null {
  if (typeof value === "string") return new Map([["default", value]]);
  if (!Array.isArray(value)) return null;
  const named = value.filter(isObject).flatMap(({ name, template }) =>
    typeof name === "string" && typeof template === "string" ? [[name, template] as const] : []
  );
  return named.length === 0 ? null : new Map(named);
}
