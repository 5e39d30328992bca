/** The small files of a model's folder, which may not be there. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject } from "../json.ts";
import { exists, readSmallText } from "../model/_files.ts";

/** A file's JSON object; null where there is no such file. @throws InputError naming the file that is none */
export async function readJson(dir: string, file: string): Promise<Record<string, unknown> | null> {
  const text = await readText(dir, file);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new InputError((place) => `${place} is not JSON: ${(error as Error).message}`, {
      path: [{ file }],
      accepted: "a JSON object",
    });
  }
  if (isObject(value)) return value;
  throw new InputError((place) => `${place} must be a JSON object.`, {
    path: [{ file }],
    accepted: "a JSON object",
  });
}

/** A file's text; null where there is no such file. @throws InputError where it is no regular file or too long */
export async function readText(dir: string, file: string): Promise<string | null> {
  const path = join(dir, file);
  return await exists(path) ? await readSmallText(path) : null;
}
