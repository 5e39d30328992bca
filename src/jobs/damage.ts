/** Whether what a job has learned is as it was written. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { exists } from "../model/_files.ts";
import { checkFolder } from "../model/checksum_file.ts";
import { checkFiles, type Checksums } from "../model/checksums.ts";
import { readSealedJson } from "../model/sealed_json.ts";
import { MANIFEST, OPTIMIZER } from "../training/checkpoint_files.ts";

/** What was found in the folders that were last looked at, as long as their files keep size and time. */
const known = new Map<string, { readonly version: string; readonly damage: Promise<string | null> }>();
const MOST_KNOWN = 1000;

/**
 * Compares a result's or checkpoint's files with the checksums that were written with them; AdamW's moments are a run's to
 * look at. A folder is read once, then again when it changes.
 *
 * @returns what is wrong with it; null where all is right, or it has no checksums
 */
export async function damageOf(folder: string): Promise<string | null> {
  const version = await versionOf(folder);
  const before = known.get(folder);
  known.delete(folder);
  const found = before?.version === version ? before : { version, damage: look(folder) };
  known.set(folder, found);
  if (known.size > MOST_KNOWN) known.delete(known.keys().next().value!);
  found.damage.catch(() => known.delete(folder));
  return await found.damage;
}

async function look(folder: string): Promise<string | null> {
  try {
    if (await exists(join(folder, MANIFEST))) {
      const { files } = await readSealedJson(join(folder, MANIFEST));
      const { [OPTIMIZER]: _, ...learned } = files as Checksums;
      await checkFiles(folder, learned);
    } else await checkFolder(folder);
    return null;
  } catch (error) {
    if (error instanceof InputError) return error.message;
    throw error;
  }
}

/** Sizes and times of a folder's files. */
async function versionOf(folder: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name).catch(() => []);
  const files = names.sort().map(async (name) => {
    const { size, mtime } = await Deno.stat(join(folder, name)).catch(() => ({ size: 0, mtime: null }));
    return [name, size, mtime?.getTime()];
  });
  return JSON.stringify(await Promise.all(files));
}
