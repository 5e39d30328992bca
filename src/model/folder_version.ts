import { join } from "node:path";

/** A folder's name with the sizes and times of its files: a folder that is written anew has another. */
export async function folderVersion(directory: string): Promise<string> {
  const names = await Array.fromAsync(Deno.readDir(directory), ({ name }) => name).catch(() => []);
  const files = names.sort().map(async (name) => {
    const { mtime, size } = await Deno.stat(join(directory, name)).catch(() => ({ mtime: null, size: 0 }));
    return [name, mtime?.getTime() ?? 0, size];
  });
  return JSON.stringify([directory, ...await Promise.all(files)]);
}
