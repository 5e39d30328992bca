/** Names from requests become paths that stay under one folder. */
import { isAbsolute, join, sep } from "node:path";
import { InputError } from "./errors.ts";

/** Where names lead. */
export interface NameRoot {
  /** Folder that names are relative to. */
  readonly root: string;
  /** The worker's own folders, which no name leads into though they are under the root. */
  readonly state?: string | undefined;
  readonly cache?: string | undefined;
}

/** What a name must lead to. */
export type PathKind = "directory" | "file" | "file or directory";

/**
 * Turns a name relative to `root` into an absolute path with every symbolic link followed.
 *
 * A directory's own entries are followed too: a model folder whose `model.safetensors` points out of the root, or into the
 * worker's own folders, is refused like a folder that does.
 *
 * @param from Folder that the name is relative to, and those that are closed.
 * @param name Name with `/` between its parts.
 * @param kind What must be there.
 * @param others What else the field accepts, for the error: `hf://org/name`.
 * @returns The real path, inside the real path of `root`.
 * @throws InputError with status 422 where the name could leave the root, 404 where nothing is there
 */
export async function resolveInside(
  from: NameRoot,
  name: string,
  kind: PathKind,
  others?: string,
): Promise<string> {
  const named = `the name of a ${kind} under the root, with "/" between its parts`;
  const accepted = others === undefined ? named : `${named}; ${others}`;
  const refuse = (why: string, status = 422): never => {
    throw new InputError((field) => `${field} ${why}.`, { value: name, accepted, status });
  };
  const shown = JSON.stringify(name);
  if (name === "") refuse("must name something under the root, not be empty");
  if (name.includes("\0")) refuse(`must not hold a NUL character: ${shown}`);
  if (name.includes("\\")) refuse(`must not hold a backslash: ${shown}`);
  if (isAbsolute(name)) refuse(`must be relative to the root, not the absolute path ${shown}`);
  if (name.split("/").includes("..")) refuse(`must not climb out of its folder with "..": ${shown}`);

  const realRoot = await Deno.realPath(from.root);
  const unreadable = (error: unknown): never => {
    if (error instanceof Deno.errors.PermissionDenied) return refuse(`may not be read: ${shown}`);
    throw error;
  };
  const real = await realPath(join(realRoot, name)).catch(unreadable);
  if (real === null) return refuse(`names no ${kind} under the root: ${shown}`, 404);
  const inside = (path: string) => path === realRoot || path.startsWith(realRoot + sep);
  if (!inside(real)) refuse(`leads out of the root through a symbolic link: ${shown}`);
  const closed = await closedFolders(from);
  if (isClosed(real, closed)) refuse(`leads into the worker's own folders: ${shown}`);

  const found = await Deno.stat(real);
  const fits = kind.includes("file") && found.isFile || kind.includes("directory") && found.isDirectory;
  if (!fits) refuse(`must name a ${kind}: ${shown}`);
  if (found.isDirectory) {
    const entries = await Array.fromAsync(Deno.readDir(real)).catch(unreadable);
    for (const entry of entries) {
      if (!entry.isSymlink) continue;
      const target = await realPath(join(real, entry.name));
      if (target === null || inside(target) && !isClosed(target, closed)) continue;
      const where = inside(target) ? "into the worker's own folders" : "out of the root";
      refuse(`holds a symbolic link that leads ${where}: ${JSON.stringify(`${name}/${entry.name}`)}`);
    }
  }
  return real;
}

/** What the worker keeps in its folders, for a root that lies in one of them. */
const KEPT = {
  state: ["jobs", "jobs.sqlite", "jobs.sqlite-wal", "hub"],
  cache: ["models", "datasets", "tuning"],
} as const;

/** The real paths that no name leads to: the worker's own folders, or what it keeps there where the root is in one. */
export async function closedFolders({ root, ...own }: NameRoot): Promise<string[]> {
  const realRoot = await realPath(root);
  const closed = (["state", "cache"] as const).map(async (kind) => {
    const folder = own[kind] === undefined ? null : await realPath(own[kind]);
    if (folder === null) return [];
    return realRoot === null || !isClosed(realRoot, [folder])
      ? [folder]
      : KEPT[kind].map((name) => join(folder, name));
  });
  return (await Promise.all(closed)).flat();
}

/** Whether a real path is one of the closed folders or in one. */
export function isClosed(real: string, closed: readonly string[]): boolean {
  return closed.some((folder) => real === folder || real.startsWith(folder + sep));
}

/** The real path; null where nothing is there, a part of it is a file, or the name is too long to exist. */
async function realPath(path: string): Promise<string | null> {
  try {
    return await Deno.realPath(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return null;
    if (error instanceof Deno.errors.FilesystemLoop) return null;
    if (error instanceof Error && "code" in error && error.code === "ENAMETOOLONG") return null;
    throw error;
  }
}
