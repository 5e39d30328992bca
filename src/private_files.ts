/** Files that only their owner may read: rows, weights and jobs of whoever uses the worker. */
import { join } from "node:path";

/** What each kind of folder holds that the worker made. */
const OURS = {
  state: /^(jobs|jobs\.sqlite(-\w+)?|hub|reserve|\.probe|engine-(journal|crashes)\.json)$/,
  cache: /^(models|datasets|tuning)$/,
};

/** Modes of what the worker makes: its own user's alone. */
export const PRIVATE_FOLDER = 0o700;
export const PRIVATE_FILE = 0o600;
const STICKY = 0o1000;

/**
 * Gives what the worker has made in its folders, by an earlier version perhaps, modes 0700 and 0600. Links are not followed,
 * and what others keep there stays as it is.
 *
 * @returns what could not be done, a sentence each
 */
export async function tighten(
  folders: { readonly state: string; readonly cache: string },
): Promise<string[]> {
  if (Deno.build.os === "windows") return [];
  const faults: string[] = [];
  for (const kind of ["state", "cache"] as const) {
    const setting = `SIMPO_${kind.toUpperCase()}`;
    try {
      await tightenFolder(folders[kind], OURS[kind], setting, faults);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) continue;
      faults.push(`${setting} may be open to other users of this machine: ${(error as Error).message}.`);
    }
  }
  return faults;
}

async function tightenFolder(folder: string, ours: RegExp, setting: string, faults: string[]): Promise<void> {
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  const mode = (await Deno.stat(folder)).mode ?? PRIVATE_FOLDER;
  const isShared = (mode & STICKY) !== 0 || names.some((name) => !ours.test(name));
  if ((mode & 0o077) !== 0) {
    if (isShared) {
      faults.push(`${setting} holds other files too and stays open to other users of this machine.`);
    } else await Deno.chmod(folder, PRIVATE_FOLDER);
  }
  for (const name of names) if (ours.test(name)) await tightenAll(join(folder, name));
}

async function tightenAll(path: string): Promise<void> {
  try {
    const { isDirectory, isFile, mode } = await Deno.lstat(path);
    if (!isDirectory && !isFile) return;
    if (((mode ?? 0) & 0o077) !== 0) await Deno.chmod(path, isDirectory ? PRIVATE_FOLDER : PRIVATE_FILE);
    if (!isDirectory) return;
    for await (const { name } of Deno.readDir(path)) await tightenAll(join(path, name));
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error; // it may go while a job ends
  }
}
