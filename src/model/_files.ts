import { basename, dirname, join } from "node:path";
import { InputError } from "../errors.ts";
import { isObject, show } from "../json.ts";
import { PRIVATE_FILE } from "../private_files.ts";

/** Whether anything is at a path. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

/**
 * Reads a file that must hold one JSON object.
 *
 * @param path File to read; its base name stands in the error's field
 * @throws InputError where the file is missing, is no file, or holds no JSON object
 */
export async function readJsonObject(
  path: string,
  reviver?: (key: string, value: unknown, context: { readonly source?: string }) => unknown,
): Promise<Record<string, unknown>> {
  const name = basename(path);
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw missingFile(path, error);
  }
  let value: unknown;
  try {
    value = JSON.parse(text, reviver as Parameters<typeof JSON.parse>[1]);
  } catch (error) {
    throw new InputError((file) => `${file} is not JSON: ${(error as Error).message}.`, {
      path: [{ file: name }],
      accepted: "a JSON object",
    });
  }
  if (!isObject(value)) {
    throw new InputError((file) => `${file} holds ${show(value)}, not a JSON object.`, {
      path: [{ file: name }],
      value,
      accepted: "a JSON object",
    });
  }
  return value;
}

/**
 * Turns the file system's "not there" into the user's mistake; every other error stays what it is.
 *
 * @returns The error to throw
 */
export function missingFile(path: string, error: unknown): unknown {
  const absent = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
  if (!absent && !(error instanceof Deno.errors.IsADirectory)) return error;
  const name = basename(path);
  const folder = basename(dirname(path));
  const message = (file: string) =>
    absent ? `${file} is not in ${folder}.` : `${file} in ${folder} is a folder, not a file.`;
  return new InputError(message, {
    path: [{ file: name }],
    accepted: `a folder that holds the file ${name}`,
  });
}

/**
 * Writes a file so that it appears whole or not at all: beside its place under another name, flushed to the disk,
 * then renamed, then the folder flushed.
 *
 * @param path Where the file shall be; an older one is replaced
 * @param chunks The file's bytes in order
 */
export async function writeWhole(
  path: string,
  chunks: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const aside = join(dirname(path), `.${basename(path)}.partial`);
  const file = await Deno.open(aside, { write: true, create: true, truncate: true, mode: PRIVATE_FILE });
  try {
    try {
      for await (const chunk of chunks) {
        for (let done = 0; done < chunk.length;) done += await file.write(chunk.subarray(done));
      }
      await file.sync();
    } finally {
      file.close();
    }
    await Deno.rename(aside, path);
  } catch (error) {
    await Deno.remove(aside).catch(() => {});
    throw error;
  }
  // Without this the rename itself may be lost in a power cut.
  const folder = await Deno.open(dirname(path));
  try {
    await folder.sync();
  } finally {
    folder.close();
  }
}
