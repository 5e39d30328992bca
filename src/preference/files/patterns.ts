/** Files by patterns, as `datasets` takes them for `data_files`. */
import { InputError } from "../../errors.ts";
import { DATA_FILES } from "./format.ts";
import { listed, visibleDataFiles } from "./select.ts";

/** A pattern, many, or some for each split. */
export type DataFiles = string | readonly string[] | Readonly<Record<string, string | readonly string[]>>;

/** More of these between two slashes could keep a matcher busy for hours. */
const MOST_STARS = 3;

/** The patterns of each split; those without one are of `train`. */
export function patternsBySplit(data_files: DataFiles): Map<string, readonly string[]> {
  if (typeof data_files === "string") return new Map([["train", [data_files]]]);
  if (isList(data_files)) return new Map([["train", data_files]]);
  return new Map(
    Object.entries(data_files).map(([split, patterns]) => [split, isList(patterns) ? patterns : [patterns]]),
  );
}

/**
 * The files that patterns match, each once, in the order of the patterns and sorted within one.
 *
 * @param names Files of the folder
 * @throws InputError for a pattern that matches none
 */
export async function matchingFiles(
  names: readonly string[],
  patterns: readonly string[],
): Promise<readonly string[]> {
  // @ts-types="./_picomatch.d.ts"
  const { default: picomatch } = await import("picomatch");
  const files = visibleDataFiles(names);
  const matched = patterns.flatMap((pattern) => {
    const plain = pattern.replace(/^\.\//, "");
    const parts = plain.split("/");
    const stars = Math.max(
      parts.filter((part) => part === "**").length,
      ...parts.map((part) => part === "**" ? 0 : part.split("*").length - 1),
    );
    if (stars > MOST_STARS) {
      throw new InputError((field) => `${field} has too many stars: ${JSON.stringify(pattern)}.`, {
        path: [],
        value: pattern,
        accepted: `at most ${MOST_STARS} between two slashes, and as many **`,
      });
    }
    const matches = picomatch(plain);
    const found = files.filter((name) => name === plain || matches(name));
    if (found.length > 0) return found;
    const there = files.length > 0 ? listed(files) : `no ${DATA_FILES.replace(/^a /, "")}`;
    throw new InputError(
      (field) => `${field} ${JSON.stringify(pattern)} matches no file of rows: the folder has ${there}.`,
      {
        path: [],
        value: pattern,
        accepted: "names of files in the folder, or patterns as data/train-*.parquet",
      },
    );
  });
  return [...new Set(matched)];
}

function isList<T>(value: T | readonly T[] | object): value is readonly T[] {
  return Array.isArray(value);
}
