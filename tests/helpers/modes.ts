/** Who may read files. */
import { join } from "node:path";

/** Paths under a folder with their modes, the folder itself as "". */
export async function modes(folder: string, name = ""): Promise<Record<string, string>> {
  const path = join(folder, name);
  const { mode, isDirectory } = await Deno.lstat(path);
  const own = { [name]: ((mode ?? 0) & 0o7777).toString(8) };
  if (!isDirectory) return own;
  const names = await Array.fromAsync(Deno.readDir(path), (entry) => join(name, entry.name));
  return Object.assign(own, ...await Promise.all(names.map((name) => modes(folder, name))));
}

/** Paths under a folder that others than its owner may read, with their modes. */
export async function openToOthers(folder: string): Promise<string[]> {
  return Object.entries(await modes(folder))
    .filter(([, mode]) => mode !== "700" && mode !== "600")
    .map(([path, mode]) => `${path} ${mode}`);
}
