/** The small files of a model's folder, which may not be there. */
import { join } from "node:path";
import { exists, parseJsonObject, readSmallText } from "../model/_files.ts";

/** A file's JSON object; null where there is no such file. @throws {InputError} naming the file that is none */
export async function readJson(dir: string, file: string): Promise<Record<string, unknown> | null> {
  const text = await readText(dir, file);
  return text === null ? null : parseJsonObject(text, file);
}

/** A file's text; null where there is no such file. @throws {InputError} where it is no regular file or too long */
export async function readText(dir: string, file: string): Promise<string | null> {
  const path = join(dir, file);
  return await exists(path) ? await readSmallText(path) : null;
}
