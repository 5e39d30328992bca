/** Which files of a folder are a split's rows, and their rows one after another. */
import { basename, dirname, extname } from "node:path";
import { InputError, located } from "../errors.ts";
import { readJsonl } from "./jsonl.ts";

/** A row as its file has it. */
export interface SourceRow {
  /** Its number in the data set, from 1. */
  readonly row: number;
  /** Name of its file; left out where it has none. */
  readonly file?: string;
  /** Parsed; left out where it could not be read. */
  readonly value?: unknown;
  /** Why this row alone could not be read, as the end of a sentence about it. */
  readonly problem?: string;
}

const EXTENSIONS = [".parquet", ".jsonl", ".json"];

/** Names that say of a file that it is a split's, as the hub's `datasets` library knows them. */
const KNOWN_SPLITS = ["train", "training", "validation", "valid", "val", "dev", "test", "testing", "eval"];

/** Whether a file's name is one of rows. */
export function isDataFile(name: string): boolean {
  return EXTENSIONS.includes(extname(name));
}

/**
 * Chooses a split's files as the hub's data sets name them: `data/train-00000-of-00002.parquet`, or else files or folders
 * with the split as a word of their name (`train.jsonl`, `pairs.train.jsonl`, `train/0000.parquet`), or else, where no name
 * tells of a split, every Parquet and JSONL file for `train`.
 *
 * @param names Files, relative to the data set's folder, with `/` between their parts
 * @returns The chosen names, sorted
 * @throws InputError where there is none, or they do not go together
 */
export function selectDataFiles(names: readonly string[], split: string): string[] {
  // As `datasets` does: names that begin with a dot or an underscore are hidden.
  const files = names.filter((name) => isDataFile(name) && !/(^|\/)[._]/.test(name)).sort();
  const shards = files.filter((name) => shardSplit(name) === split);
  const named = shards.length > 0 ? shards : files.filter((name) => words(name).includes(split));
  const untold = split === "train" && !files.some((name) => shardSplit(name) !== null || tellsSplit(name));
  // Most files of the name *.json are no rows.
  const rows = files.filter((name) => extname(name) !== ".json");
  const chosen = named.length > 0 ? named : untold ? rows : [];

  const refuse = (message: string, value: unknown, accepted: string): never => {
    throw new InputError(message, { path: [], value, accepted });
  };
  if (chosen.length === 0) {
    const found = files.length === 0 ? "no Parquet or JSONL file" : `only ${listed(files)}`;
    return refuse(
      `There is no split ${JSON.stringify(split)}: the folder has ${found}.`,
      split,
      "a split's name",
    );
  }
  const folders = new Set(chosen.map((name) => dirname(name)));
  const types = new Set(chosen.map((name) => extname(name)));
  if (folders.size > 1 || types.size > 1) {
    const files = listed(chosen);
    return refuse(
      `The split ${JSON.stringify(split)} could be different files (${files}).`,
      chosen,
      "a folder that holds one kind of file for a split, or the file itself",
    );
  }
  checkShards(chosen);
  return chosen;
}

/**
 * Streams the rows of files; their numbers run on from file to file.
 *
 * @param paths Absolute paths of `.parquet` files; any other is read as JSONL
 * @throws InputError naming the file
 */
export async function* readDataFiles(paths: readonly string[]): AsyncGenerator<SourceRow> {
  let rows = 0;
  for (const path of paths) {
    const file = basename(path);
    const read = extname(path) === ".parquet" ? await parquetReader() : readJsonl;
    try {
      for await (const row of read(path, rows)) {
        rows = row.row;
        yield { ...row, file };
      }
    } catch (error) {
      throw located(error, [{ file }]);
    }
  }
}

/** Loaded by the first Parquet file: hyparquet and node:zlib would hold up the start of a worker by 30 ms. */
async function parquetReader(): Promise<typeof import("./parquet.ts").readParquet> {
  return (await import("./parquet.ts")).readParquet;
}

/** `data/train_prefs-00000-of-00002-0123456789abcdef.parquet` is of the split `train_prefs`. */
function shardSplit(name: string): string | null {
  return /(?:^|\/)([^/]+)-\d{5}-of-\d{5}(-[0-9a-f]+)?\.\w+$/.exec(name)?.[1] ?? null;
}

/** A split with a shard missing would be trained on as if it were whole. */
function checkShards(names: readonly string[]): void {
  const numbers = names.map((name) => /-(\d{5})-of-(\d{5})(-[0-9a-f]+)?\.\w+$/.exec(name));
  const shard = numbers.find((match) => match !== null);
  if (!shard) return;
  const count = Number(shard[2]);
  const there = new Set(numbers.map((match) => match?.[1]));
  if (there.size === count && names.length === count && !there.has(undefined)) return;
  throw new InputError(
    `The folder has ${names.length} files of a split in ${count} parts: ${listed(names)}.`,
    {
      path: [],
      value: names,
      accepted: "every part, once",
    },
  );
}

function words(name: string): string[] {
  return name.slice(0, -extname(name).length).split(/[/._\- ]/).concat(basename(name, extname(name)));
}

function tellsSplit(name: string): boolean {
  return words(name).some((word) => KNOWN_SPLITS.includes(word));
}

function listed(names: readonly string[]): string {
  return names.slice(0, 5).join(", ") + (names.length > 5 ? `, … (${names.length} files)` : "");
}
