/** Which files of a folder are a split's rows, told by their names alone. */
import { basename, dirname } from "node:path";
import { InputError } from "../../errors.ts";
import { DATA_FILES, formatOf, isDataFile, stem } from "./format.ts";

/** Names that say of a file that it is a split's, as the hub's `datasets` library knows them. */
const KNOWN_SPLITS = [
  ["train", "training"],
  ["validation", "valid", "dev", "val"],
  ["test", "testing", "eval", "evaluation"],
];

/** Files beside a data set's rows, as `datasets` knows them. */
const NO_ROWS = /^(config|dataset_infos?|dataset_dict|state)\.json$/;
/** Files of a model or a program, which a folder without rows may hold. */
const OTHER_JSON = /(config|index|map|package|package-lock|template|tokenizer|tokens|vocab)\.json$/;

/** Files of rows, sorted. As `datasets` does: names that begin with a dot or an underscore are hidden. */
export function visibleDataFiles(names: readonly string[]): string[] {
  const isVisible = (name: string) => !/(^|\/)[._]/.test(name) && !NO_ROWS.test(basename(name));
  return names.filter((name) => isDataFile(name) && isVisible(name)).sort();
}

/**
 * Chooses a split's files as the hub's data sets name them: `data/train-00000-of-00002.parquet`, or else files or folders
 * with the split as a word of their name (`train.jsonl`, `pairs.train.jsonl`, `train/0000.parquet`), or with another word
 * for it (`dev` for validation), or else, where no name tells of a split, every file of rows for `train`.
 *
 * @param names Files, relative to the data set's folder, with `/` between their parts
 * @returns The chosen names, sorted
 * @throws {InputError} where there is none, or they do not go together
 *
 * @example Shards of one split
 * ```ts
 * import assert from "node:assert/strict";
 * import { selectDataFiles } from "./select.ts";
 * const names = ["data/test-00000-of-00001.parquet", "data/train-00000-of-00001.parquet", "README.md"];
 * assert.deepEqual(selectDataFiles(names, "train"), ["data/train-00000-of-00001.parquet"]);
 * ```
 */
export function selectDataFiles(names: readonly string[], split: string): readonly string[] {
  const files = visibleDataFiles(names);
  const chosen = filesOf(files, split);
  if (chosen.length === 0) throw noSplit(split, splitsOf(files), files);

  const folders = new Set(chosen.map((name) => dirname(name)));
  const formats = new Set(chosen.map((name) => formatOf(name)));
  if (folders.size > 1 || formats.size > 1) {
    const tops = [...new Set([...folders].map((folder) => folder.split("/")[0]))].sort();
    const named = tops.length > 1 ? `name: one of ${tops.join(", ")}; or ` : "";
    throw new InputError(
      `The split ${JSON.stringify(split)} could be different files (${listed(chosen)}).`,
      {
        value: chosen,
        accepted: `${named}data_files, a folder that holds one kind of file for a split, or the file itself`,
      },
    );
  }
  checkShards(chosen);
  return chosen;
}

/**
 * The refusal of a split that is not there.
 *
 * @param splits those that are
 * @param files where no split is told of
 */
export function noSplit(split: string, splits: readonly string[], files: readonly string[]): InputError {
  const found = splits.length > 0
    ? `the splits are ${splits.join(", ")}`
    : files.length > 0
    ? `the folder has only ${listed(files)}`
    : `the folder has no ${DATA_FILES.replace(/^a /, "")}`;
  return new InputError(`There is no split ${JSON.stringify(split)}: ${found}.`, {
    value: split,
    accepted: splits.length > 0 ? `split: ${splits.join(" | ")}` : "a split's name",
  });
}

/** Some names, and how many there are. */
export function listed(names: readonly string[]): string {
  return names.slice(0, 5).join(", ") + (names.length > 5 ? `, … (${names.length} files)` : "");
}

/** A split with a shard missing would be trained on as if it were whole. @throws {InputError} naming what is there */
export function checkShards(names: readonly string[]): void {
  const shards = names.map((name) => /^(.+)-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.[\w.]+$/.exec(name));
  const first = shards.find((match) => match !== null);
  if (!first) return;
  const count = Number(first[3]);
  const there = new Set(shards.map((match) => match?.[2]));
  if (there.size === count && names.length === count && !there.has(undefined)) return;
  throw new InputError(
    `The folder has ${names.length} files of a split in ${count} parts: ${listed(names)}.`,
    { value: names, accepted: "every part, once" },
  );
}

function filesOf(files: readonly string[], split: string): readonly string[] {
  const shards = files.filter((name) => shardSplit(name) === split);
  if (shards.length > 0) return shards;
  const synonyms = KNOWN_SPLITS.find((names) => names[0] === split) ?? [];
  for (const word of new Set([split, ...synonyms])) {
    const named = files.filter((name) => words(name).includes(word));
    if (named.length > 0) return named;
  }
  if (split !== "train" || splitsOf(files).length > 0) return [];
  // Most files of the name *.json beside others are no rows.
  const rows = files.filter((name) => formatOf(name) !== "json");
  return rows.length > 0 ? rows : files.filter((name) => !OTHER_JSON.test(name));
}

/** The splits that names tell of. */
function splitsOf(files: readonly string[]): string[] {
  const known = KNOWN_SPLITS.flat();
  const told = files.flatMap((name) => {
    const found = words(name).filter((word) => known.includes(word));
    return found.length > 0 ? found : shardSplit(name) ?? [];
  });
  return [...new Set(told)].sort();
}

/** `data/train_prefs-00000-of-00002-0123456789abcdef.parquet` is of the split `train_prefs`. */
function shardSplit(name: string): string | null {
  return /^([^/]+)-\d{5}-of-\d{5}(-[0-9a-f]+)?$/.exec(stem(basename(name)))?.[1] ?? null;
}

/** Words of a name; of a shard's only those of its folders, as `train_prefs` is not a part of `train`. */
function words(name: string): string[] {
  const file = stem(basename(name));
  const words = dirname(name).split(/[/._\- ]/);
  return shardSplit(name) !== null ? words : [...words, ...file.split(/[._\- ]/), file];
}
