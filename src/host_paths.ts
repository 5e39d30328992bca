/** Paths of this machine in what others read. */
import type { Config } from "./config.ts";

type Folders = Pick<Config, "root" | "state" | "cache">;

/**
 * Makes a function that leaves the worker's own folders out of a text, JSON too: a path under the root becomes relative to
 * it, one under the state or cache folder begins with SIMPO_STATE or SIMPO_CACHE. Errors name files relative to the root by
 * themselves; this is for those that come from the system or from a package.
 *
 * @example An error of the system
 * ```ts
 * import assert from "node:assert/strict";
 * import { hostPathsHidden } from "./host_paths.ts";
 * const hide = hostPathsHidden({ root: "/srv/data", state: "/srv/data/state", cache: "/cache" });
 * assert.equal(hide("open '/srv/data/model/config.json'"), "open 'model/config.json'");
 * assert.equal(hide("open '/srv/data/state/jobs.sqlite'"), "open 'SIMPO_STATE/jobs.sqlite'");
 * ```
 */
export function hostPathsHidden({ root, state, cache }: Folders): (text: string) => string {
  const names = new Map<string, string>();
  for (const [folder, name] of [[root, ""], [state, "SIMPO_STATE"], [cache, "SIMPO_CACHE"]] as const) {
    for (const path of [folder, realPath(folder)]) {
      if (path === "/") continue; // every absolute path begins with it
      for (const form of [path, JSON.stringify(path).slice(1, -1)]) names.set(form, name);
    }
  }
  if (names.size === 0) return (text) => text;
  const longestFirst = [...names.keys()].sort((a, b) => b.length - a.length).map(RegExp.escape);
  // A path begins where a text or a word does, behind an escaped line feed too, and ends where a name of it does.
  const pattern = new RegExp(
    `(?<=^|[^\\w.\\-/\\\\]|\\\\[nrt])(?:file://)?(${
      longestFirst.join("|")
    })(?:(/+)(?=[^\\s"'/])|(?![\\w\\-]))`,
    "g",
  );
  return (text) =>
    text.replace(pattern, (_, path: string, slash: string | undefined) => {
      const name = names.get(path)!;
      if (slash === undefined) return name || ".";
      return name && `${name}/`;
    });
}

/** The path itself where nothing is there. */
function realPath(path: string): string {
  try {
    return Deno.realPathSync(path);
  } catch {
    return path;
  }
}
