/** A folder of rows: which of its files a data set means. */
import { InputError, within } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { chooseConfig, type Configuration, readConfigs } from "./configs.ts";
import { type DataFiles, matchingFiles, patternsBySplit } from "./patterns.ts";
import { checkShards, noSplit, selectDataFiles } from "./select.ts";
import { parseSplit, type Slice } from "./split.ts";

/** A folder of this machine or of the hub. */
export interface DataFolder {
  /** Its files, with `/` between their parts. */
  readonly names: readonly string[];
  /** Text of one of them. */
  read(name: string): Promise<string>;
}

/** What of a folder is meant: fields of a request's data set. */
export interface DataChoice {
  readonly name?: string | undefined;
  readonly data_files?: DataFiles | undefined;
  readonly split?: string | undefined;
}

/** Files, and which of their rows; all unless there is a slice. */
export interface ChosenFiles {
  readonly files: readonly string[];
  readonly slice?: Slice | undefined;
}

/** Gives a split's files. @throws {InputError} where there is none */
type FindSplit = (split: string) => readonly string[] | Promise<readonly string[]>;

/**
 * Chooses files as `datasets` does: by `data_files`; or as `save_to_disk` wrote the folder; or by the configurations in the
 * README.md; or by the names of files.
 *
 * @throws {InputError} naming the field, and the configurations or splits that there are
 */
export async function chooseDataFiles(folder: DataFolder, choice: DataChoice): Promise<ChosenFiles[]> {
  const { split } = choice;
  const parts = within(["split"], () => parseSplit(split ?? "train"));
  const find = await finder(folder, choice);
  return await within([split === undefined ? "path" : "split"], async () => {
    const chosen: ChosenFiles[] = [];
    for (const { split, slice } of parts) chosen.push({ files: await find(split), ...(slice && { slice }) });
    return chosen;
  });
}

async function finder(folder: DataFolder, { name, data_files }: DataChoice): Promise<FindSplit> {
  const { names } = folder;
  if (data_files !== undefined) {
    if (name !== undefined) throw notBeside("name", name, "data_files says which files are meant");
    const splits = await within(["data_files"], () => {
      const matched = [...patternsBySplit(data_files)].map(async ([split, patterns]) =>
        [split, await matchingFiles(names, patterns)] as const
      );
      return Promise.all(matched);
    });
    return among(new Map(splits));
  }
  const saved = await savedSplits(folder);
  if (saved !== null) {
    if (name === undefined) return among(saved);
    throw notBeside("name", name, "a folder of save_to_disk has no configurations");
  }
  const configs = names.includes("README.md") ? await readConfigs(await folder.read("README.md")) : [];
  const inside = subfolder(folder, name ?? "");
  if (name !== undefined && inside.names.length > 0 && !configs.some((config) => config.name === name)) {
    const find = await finder(inside, {});
    return async (split) => (await find(split)).map((file) => `${name}/${file}`);
  }
  const config = within(["name"], () => chooseConfig(configs, name));
  return config === null ? (split) => selectDataFiles(names, split) : configured(folder, config);
}

/** The files that a configuration of the README.md names. */
function configured(folder: DataFolder, { data_dir, data_files }: Configuration): FindSplit {
  const { names } = subfolder(folder, data_dir);
  const prefix = data_dir === "" ? "" : `${data_dir}/`;
  const whole = (files: readonly string[]) => files.map((file) => prefix + file);
  if (data_files === null) return (split) => whole(selectDataFiles(names, split));
  return async (split) => {
    const patterns = data_files.get(split);
    if (patterns === undefined) throw noSplit(split, [...data_files.keys()], []);
    const files = await within([{ file: "README.md" }, "data_files"], () => matchingFiles(names, patterns));
    const series = Map.groupBy(files, (file) => file.replace(/-\d{5}-of-/, "-of-"));
    for (const shards of series.values()) checkShards(shards);
    return whole(files);
  };
}

/** Splits as `save_to_disk` writes them; null where the folder is none of its. @throws {InputError} where it has indices */
async function savedSplits(folder: DataFolder): Promise<Map<string, readonly string[]> | null> {
  if (folder.names.includes("dataset_dict.json")) {
    const { splits } = await readObject(folder, "dataset_dict.json");
    const names = (Array.isArray(splits) ? splits : []).filter((split) => typeof split === "string");
    const read = [...new Set(names)].map(
      async (split) => {
        return [split, (await savedFiles(folder, `${split}/`))?.files ?? []] as const;
      },
    );
    return new Map(await Promise.all(read));
  }
  const saved = await savedFiles(folder, "");
  return saved && new Map([[saved.split ?? "train", saved.files]]);
}

async function savedFiles(
  folder: DataFolder,
  prefix: string,
): Promise<{ split: string | null; files: readonly string[] } | null> {
  const state = `${prefix}state.json`;
  if (!folder.names.includes(state)) {
    if (prefix === "") return null;
    throw new InputError(`${state} is not there.`, {
      path: [{ file: state }],
      accepted: "all that save_to_disk wrote",
    });
  }
  const { _data_files, _indices_data_files, _indices_files, _split } = await readObject(folder, state);
  if (!Array.isArray(_data_files)) return null;
  for (const indices of [_indices_data_files, _indices_files]) {
    if (!Array.isArray(indices) || indices.length === 0) continue;
    throw new InputError(
      (field) =>
        `${field} picks rows by an indices file, which is not read: save it after flatten_indices().`,
      { path: [{ file: state }, "_indices_files"], value: indices, accepted: "no indices" },
    );
  }
  const files = _data_files.map((file) =>
    prefix + (isObject(file) && typeof file.filename === "string" ? file.filename : "")
  );
  const there = new Set(folder.names);
  const missing = files.find((file) => !there.has(file));
  if (missing !== undefined) {
    throw new InputError(`The folder has no ${missing}, of which its ${state} tells.`, {
      path: [{ file: state }, "_data_files"],
      value: missing,
      accepted: "all that save_to_disk wrote",
    });
  }
  return { split: typeof _split === "string" ? _split : null, files };
}

async function readObject(folder: DataFolder, name: string): Promise<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(await folder.read(name));
    if (isObject(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new InputError((file) => `${file} must hold an object.`, {
    path: [{ file: name }],
    accepted: "JSON",
  });
}

function among(splits: ReadonlyMap<string, readonly string[]>): FindSplit {
  return (split) => {
    const files = splits.get(split);
    if (files !== undefined) return files;
    throw noSplit(split, [...splits.keys()], []);
  };
}

function subfolder(folder: DataFolder, path: string): DataFolder {
  if (path === "") return folder;
  const prefix = `${path.replace(/^\.\//, "").replace(/\/$/, "")}/`;
  const inside = folder.names.filter((name) => name.startsWith(prefix)).map((name) =>
    name.slice(prefix.length)
  );
  return { names: inside, read: (name) => folder.read(prefix + name) };
}

function notBeside(field: string, value: unknown, why: string): InputError {
  return new InputError((place) => `${place} cannot be given here: ${why}.`, {
    path: [field],
    value,
    accepted: `no ${field}`,
  });
}
