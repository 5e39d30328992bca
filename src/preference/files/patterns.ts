/** Files by patterns, as `datasets` takes them for `data_files`. */
import { InputError } from "../../errors.ts";
import { show } from "../../json.ts";
import { DATA_FILES } from "./format.ts";
import { listed, visibleDataFiles } from "./select.ts";

/** A pattern, many, or some for each split. */
export type DataFiles = string | readonly string[] | Readonly<Record<string, string | readonly string[]>>;

/** More of these between two slashes could keep a matcher busy for hours. */
const MOST_STARS = 3;
/** Lists of alternatives in a pattern: with each the time may double. */
const MOST_BRACES = 3;
/** As many as a request may have, each as long as a name. */
const MOST_PATTERNS = 1000;
const MOST_CHARACTERS = 4096;

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
 * @throws {InputError} for a pattern that matches none
 */
export async function matchingFiles(
  names: readonly string[],
  patterns: readonly string[],
): Promise<readonly string[]> {
  // @ts-types="./_picomatch.d.ts"
  const { default: picomatch } = await import("picomatch");
  const files = visibleDataFiles(names);
  if (patterns.length > MOST_PATTERNS) {
    throw new InputError((field) => `${field} has ${patterns.length} patterns.`, {
      accepted: `at most ${MOST_PATTERNS}`,
    });
  }
  const matched = patterns.flatMap((pattern) => {
    const plain = pattern.replace(/^\.\//, "");
    const parts = plain.split("/");
    const stars = Math.max(
      parts.filter((part) => part === "**").length,
      ...parts.map((part) => part === "**" ? 0 : part.split("*").length - 1),
    );
    const braces = plain.split("{").length - 1;
    if (stars > MOST_STARS || braces > MOST_BRACES || plain.length > MOST_CHARACTERS) {
      const many = stars > MOST_STARS ? "stars" : braces > MOST_BRACES ? "braces" : "characters";
      throw new InputError((field) => `${field} has too many ${many}: ${show(pattern)}.`, {
        value: pattern,
        accepted:
          `at most ${MOST_STARS} stars between two slashes, as many ** and ${MOST_BRACES} lists in braces`,
      });
    }
    // Brackets and the like stand for themselves, as in Python: what they mean in a shell may double the time each.
    const matches = picomatch(plain.replace(/[()|+]/g, "\\$&"), { noextglob: true, nonegate: true });
    const found = files.filter((name) => name === plain || matches(name));
    if (found.length > 0) return found;
    const there = files.length > 0 ? listed(files) : `no ${DATA_FILES.replace(/^a /, "")}`;
    throw new InputError(
      (field) => `${field} ${JSON.stringify(pattern)} matches no file of rows: the folder has ${there}.`,
      { value: pattern, accepted: "names of files in the folder, or patterns as data/train-*.parquet" },
    );
  });
  return [...new Set(matched)];
}

function isList<T>(value: T | readonly T[] | object): value is readonly T[] {
  return Array.isArray(value);
}
