import { basename, dirname, join } from "node:path";
import { InputError } from "../errors.ts";
import { isDeeper, isObject, show } from "../json.ts";
import { PRIVATE_FILE } from "../private_files.ts";

/** As `JSON.parse` has it, of each value the innermost first. */
type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

/**
 * What a file is refused with.
 *
 * @param file its name, which the sentence begins with
 * @param predicate the rest of the sentence
 */
export function fileError(file: string, predicate: string, accepted: string, value?: unknown): InputError {
  return new InputError((place) => `${place} ${predicate}.`, { path: [{ file }], value, accepted });
}

/** Takes what is not there for null; for `catch`. @throws what else went wrong */
export function ignoreMissing(error: unknown): null {
  if (error instanceof Deno.errors.NotFound) return null;
  throw error;
}

/** What is done with a file or folder, or null where it is not there. */
export function ifThere<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    return ignoreMissing(error);
  }
}

/** Names in a folder; none where there is no such folder. */
export async function entryNames(folder: string): Promise<string[]> {
  return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name).catch(ignoreMissing) ?? [];
}

/** Whether anything is at a path. */
export async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    // Who reads it says so.
    if (error instanceof Deno.errors.FilesystemLoop || error instanceof Deno.errors.PermissionDenied) {
      return true;
    }
    throw error;
  }
}

/**
 * Reads a file that must hold one JSON object.
 *
 * @param path File to read; its base name stands in the error's field
 * @throws InputError where the file is missing, is no file, or holds no JSON object
 */
export async function readJsonObject(path: string, reviver?: Reviver): Promise<Record<string, unknown>> {
  return parseJsonObject(await readSmallText(path), basename(path), reviver);
}

/** How deep the JSON of a model's files may go: whoever walks through it calls himself. */
const MOST_DEPTH = 100;

/**
 * The JSON object that a file holds.
 *
 * @param file its name, for the error's field
 * @throws InputError where it holds none, or one that is nested deeper than any model's
 */
export function parseJsonObject(text: string, file: string, reviver?: Reviver): Record<string, unknown> {
  const refuse = (predicate: string, value?: unknown): never => {
    throw fileError(file, predicate, `a JSON object, nested at most ${MOST_DEPTH} deep`, value);
  };
  let value: unknown;
  try {
    value = JSON.parse(text, reviver as Parameters<typeof JSON.parse>[1]);
  } catch (error) {
    return refuse(`is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(value)) return refuse(`holds ${show(value)}, not a JSON object`, value);
  if (isDeeper(value, MOST_DEPTH)) return refuse(`is nested more than ${MOST_DEPTH} deep`);
  return value;
}

/** Files beside a model's weights that hold a vocabulary: the largest in use have a fifth of this. */
const VOCABULARY_BYTES = 128 * 2 ** 20;
/** Configurations of some kilobytes, each field of which is looked at. */
const CONFIG_BYTES = 2 ** 20;
/** Templates, lists of added tokens, indices of weights. */
const OTHER_BYTES = 16 * 2 ** 20;

/** Most bytes of a file beside a model's weights, by its name. */
export function mostFileBytes(name: string): number {
  if (/^((adapter_|generation_)?config|state|dataset_dict)\.json$|\.jinja$/.test(name)) return CONFIG_BYTES;
  return /^tokenizer\.(json|model)$/.test(name) ? VOCABULARY_BYTES : OTHER_BYTES;
}

/**
 * Reads a file that is to be held in memory. It is looked at before it is opened: opening a named pipe would wait for its
 * writer, and a device has no end.
 *
 * @throws InputError where it is missing, no regular file or too long
 */
export async function readSmallFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(path);
  } catch (error) {
    throw missingFile(path, error);
  }
  if (!info.isFile) throw notAFile(path, info);
  const most = mostFileBytes(basename(path));
  if (info.size > most) {
    const accepted = `a file of at most ${most} bytes`;
    throw fileError(basename(path), `has ${info.size} bytes, but may have ${most}`, accepted, info.size);
  }
  try {
    return await Deno.readFile(path);
  } catch (error) {
    throw missingFile(path, error);
  }
}

/** The same as text. */
export async function readSmallText(path: string): Promise<string> {
  return new TextDecoder().decode(await readSmallFile(path));
}

/** Entries of a folder of templates. */
const MOST_ENTRIES = 200;

/**
 * Names in a small folder; none where there is no such folder.
 *
 * @throws InputError where it is something else, cannot be read or has too many
 */
export async function namesInFolder(path: string): Promise<string[]> {
  const names: string[] = [];
  const [file, folder] = [basename(path), basename(dirname(path))];
  try {
    for await (const { name } of Deno.readDir(path)) {
      if (names.push(name) > MOST_ENTRIES) break;
    }
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    if (!(error instanceof Deno.errors.NotADirectory)) throw missingFile(path, error);
    throw fileError(file, `in ${folder} is no folder`, "a folder");
  }
  if (names.length <= MOST_ENTRIES) return names;
  throw fileError(file, `in ${folder} holds more than ${MOST_ENTRIES} files`, `at most ${MOST_ENTRIES}`);
}

/** What is refused with what is at the path of a file and is none. */
export function notAFile(path: string, info: Deno.FileInfo): InputError {
  const predicate = `in ${basename(dirname(path))} is ${kindOf(info)}, not a file`;
  return fileError(basename(path), predicate, "a regular file");
}

/** What something is that is no file, as a phrase. */
export function kindOf(
  { isDirectory, isFifo, isSocket, isBlockDevice, isCharDevice }: Deno.FileInfo,
): string {
  if (isDirectory) return "a folder";
  if (isFifo) return "a named pipe";
  if (isSocket) return "a socket";
  return isBlockDevice || isCharDevice ? "a device" : "something else";
}

/**
 * Turns the file system's "not there" into the user's mistake; every other error stays what it is.
 *
 * @returns The error to throw
 */
export function missingFile(path: string, error: unknown): unknown {
  const folder = basename(dirname(path));
  const why = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory
    ? `is not in ${folder}`
    : error instanceof Deno.errors.IsADirectory
    ? `in ${folder} is a folder, not a file`
    : error instanceof Deno.errors.FilesystemLoop
    ? `in ${folder} is a symbolic link that leads to itself`
    : error instanceof Deno.errors.PermissionDenied
    ? `in ${folder} may not be read`
    : null;
  if (why === null) return error;
  const name = basename(path);
  return fileError(name, why, `a folder that holds the file ${name}`);
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
  await flushFolder(dirname(path));
}

/** Has a folder's entries outlive a power cut: without it, what was made or renamed in it may be lost. */
export async function flushFolder(path: string): Promise<void> {
  using folder = await Deno.open(path);
  await folder.sync();
}
