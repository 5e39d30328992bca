/** Names of a request as files of this machine: under the root, or of the hub and downloaded first. */
import { join } from "node:path";
import type { Dataset, InspectRequest, RowSource } from "../engine/protocol.ts";
import { InputError, within } from "../errors.ts";
import type { Hub, OnDownload } from "../hub/hub.ts";
import { chooseAdapterFiles, chooseModelFiles, chooseTokenizerFiles } from "../hub/model_files.ts";
import { type HubName, isHubName, parseHubName } from "../hub/name.ts";
import { missingFile, readSmallText } from "../model/_files.ts";
import { closedFolders, isClosed, type NameRoot, resolveInside } from "../paths.ts";
import type { SlicedFiles } from "../preference/data_files.ts";
import type { chooseDataFiles, ChosenFiles, DataFolder } from "../preference/files/folder.ts";
import { isDataFile } from "../preference/files/format.ts";
import { parseSplit } from "../preference/files/split.ts";
import type { DatasetSpec, NamedRows, SourceSpec } from "./given_rows.ts";
import type { JobSpec } from "./spec.ts";

/** Where names are looked up. */
export interface FileSources extends NameRoot {
  /** Where `hf://` names are looked up; without it they are refused. */
  readonly hub?: Hub | undefined;
  readonly onDownload?: OnDownload | undefined;
}

/** How deep a data set's folder is looked through: `default/train/0000.parquet` is three names deep. */
const MAX_DEPTH = 5;

/**
 * The folder of a model.
 *
 * @param signal Ends the waiting for a download
 * @throws {InputError} where there is none, or as `resolveInside` and `Hub.fetch`
 */
export async function resolveModel(
  sources: FileSources,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  return await resolveFolder(sources, name, "or hf://org/name", chooseModelFiles, signal);
}

/** The folder of a model's config.json, its weights left where they are. @throws {InputError} as `resolveModel` */
export async function resolveModelConfig(sources: FileSources, name: string): Promise<string> {
  return await resolveFolder(sources, name, "or hf://org/name", () => ["config.json"]);
}

/** The folder of a model's configuration and tokenizer, its weights left where they are. @throws {InputError} as `resolveModel` */
export async function resolveTokenizer(
  sources: FileSources,
  name: string,
  signal?: AbortSignal,
): Promise<string> {
  return await resolveFolder(sources, name, "or hf://org/name", chooseTokenizerFiles, signal);
}

/**
 * What an inspection of a job reads.
 *
 * @param signal Ends the waiting for a download
 * @throws {InputError} naming the field
 */
export async function resolveInspection(
  sources: FileSources,
  { model, dataset, eval_dataset, settings }: JobSpec,
  signal?: AbortSignal,
): Promise<InspectRequest> {
  return {
    model: await within(["model"], () => resolveTokenizer(sources, model, signal)),
    dataset: await within(["dataset"], () => resolveDataset(sources, dataset, signal)),
    eval_dataset: eval_dataset &&
      await within(["eval_dataset"], () => resolveDataset(sources, eval_dataset, signal)),
    settings,
  };
}

/** The folder of an adapter that is no job's. @throws {InputError} as `resolveModel` */
export async function resolveAdapterFolder(sources: FileSources, name: string): Promise<string> {
  return await resolveFolder(sources, name, "hf://org/name; or the id of a job", chooseAdapterFiles);
}

/**
 * A folder under the root, or of a repository with the chosen files.
 *
 * @param accepted What would be accepted beside a folder under the root, for the error
 */
async function resolveFolder(
  { hub, onDownload, ...from }: FileSources,
  name: string,
  accepted: string,
  choose: typeof chooseModelFiles,
  signal?: AbortSignal,
): Promise<string> {
  if (!isHubName(name)) return await resolveInside(from, name, "directory", accepted);
  const hubName = parseHubName(name, "model");
  const chosen = (paths: string[]) => choose(paths, hubName.repository);
  return await hubOf(hub).fetch(hubName, chosen, signal, onDownload);
}

/**
 * Finds the files of a data set.
 *
 * @param signal Ends the waiting for a download
 * @throws {InputError} where there is no such file or split, or as `resolveInside` and `Hub.fetch`
 */
export async function resolveDataset(
  sources: FileSources,
  dataset: DatasetSpec,
  signal?: AbortSignal,
): Promise<Dataset> {
  if (!isList(dataset)) return await resolveSource(sources, dataset, signal);
  const resolved: RowSource[] = [];
  for (const [index, source] of dataset.entries()) {
    resolved.push(await within([index], () => resolveSource(sources, source, signal)));
  }
  return resolved;
}

function isList(dataset: DatasetSpec): dataset is readonly SourceSpec[] {
  return Array.isArray(dataset);
}

async function resolveSource(
  sources: FileSources,
  source: SourceSpec,
  signal: AbortSignal | undefined,
): Promise<RowSource> {
  if ("comparisons" in source) return source;
  const { path: _path, split: _split, name: _name, data_files: _files, ...reading } = source;
  return { ...await resolveFiles(sources, source, signal), ...reading };
}

async function resolveFiles(
  { hub, onDownload, ...from }: FileSources,
  dataset: NamedRows,
  signal: AbortSignal | undefined,
): Promise<{ path: string } | { paths: (string | SlicedFiles)[] }> {
  const { path: name } = dataset;
  if (isHubName(name)) {
    const { repository, chosen } = await chooseHubRows({ hub, onDownload }, dataset, signal);
    const files = chosen.flatMap(({ files }) => files);
    const fetch = () => hubOf(hub).fetch(repository, () => files, signal, onDownload);
    const folder = await within(["path"], fetch);
    return { paths: await pathsOf(chosen, (file) => join(folder, file)) };
  }
  const path = await within(["path"], () => resolveInside(from, name, "file or directory"));
  if ((await Deno.stat(path)).isFile) {
    const chosen = chooseFile(name, dataset);
    return dataset.split === undefined ? { path } : { paths: await pathsOf(chosen, () => path) };
  }
  const folder = {
    names: await Array.fromAsync(folderFiles(path, "", MAX_DEPTH, await closedFolders(from)))
      .catch((error) => {
        throw missingFile(path, error);
      }),
    read: async (file: string) => await readSmallText(await resolveInside(from, join(name, file), "file")),
  };
  const chosen = await choose(folder, dataset);
  const resolve = (file: string) => resolveInside(from, join(name, file), "file");
  return { paths: await within(["path"], () => pathsOf(chosen, resolve)) };
}

/** Looks up a data set without downloading more than the hub's lists of files. @throws {InputError} as `resolveDataset` */
export async function checkDataset(sources: FileSources, dataset: DatasetSpec): Promise<void> {
  const check = async (source: SourceSpec) => {
    if ("path" in source && isHubName(source.path)) await chooseHubRows(sources, source);
    else await resolveSource(sources, source, undefined);
  };
  if (!isList(dataset)) return await check(dataset);
  for (const [index, source] of dataset.entries()) await within([index], () => check(source));
}

/** A split's files among a repository's, or the one file that is named. What says which is downloaded: its README.md. */
async function chooseHubRows(
  { hub, onDownload }: Pick<FileSources, "hub" | "onDownload">,
  dataset: NamedRows,
  signal?: AbortSignal,
): Promise<{ repository: HubName; chosen: readonly ChosenFiles[] }> {
  const [repository, paths] = await within(["path"], async () => {
    const repository = parseHubName(dataset.path, "dataset");
    return [repository, await hubOf(hub).list(repository, signal)] as const;
  });
  const { path } = repository;
  if (isDataFile(path) && paths.includes(path)) return { repository, chosen: chooseFile(path, dataset) };
  const prefix = path === "" ? "" : `${path}/`;
  const folder: DataFolder = {
    names: paths.filter((name) => name.startsWith(prefix)).map((name) => name.slice(prefix.length)),
    read: async (name) => {
      const fetch = () => hubOf(hub).fetch(repository, () => [prefix + name], signal, onDownload);
      return await readSmallText(join(await within(["path"], fetch), prefix + name));
    },
  };
  const chosen = await choose(folder, dataset);
  const whole = ({ files, ...slice }: ChosenFiles) => ({
    ...slice,
    files: files.map((file) => prefix + file),
  });
  return { repository, chosen: chosen.map(whole) };
}

/** Loaded by the first folder: a worker that reads none starts sooner. */
async function choose(...folder: Parameters<typeof chooseDataFiles>): ReturnType<typeof chooseDataFiles> {
  return await (await import("../preference/files/folder.ts")).chooseDataFiles(...folder);
}

/** The one file that is named, or slices of it: its only split is train. @throws {InputError} for fields of a folder */
function chooseFile(file: string, { split, name, data_files }: NamedRows): ChosenFiles[] {
  const parts = within(["split"], () => parseSplit(split ?? "train"));
  const isOther = parts.some(({ split }) => split !== "train");
  for (const [field, value] of Object.entries({ split: isOther ? split : undefined, name, data_files })) {
    if (value === undefined) continue;
    const accepted = field === "split"
      ? "no split beside a file, or a slice as train[:1000]"
      : `no ${field} beside a file`;
    throw new InputError(
      (place) => `${place} is for folders, and ${JSON.stringify(file)} is a file: leave it out.`,
      { path: [field], value, accepted },
    );
  }
  return parts.map(({ slice }) => ({ files: [file], ...(slice && { slice }) }));
}

/** Chosen files as a job reads them. */
async function pathsOf(
  chosen: readonly ChosenFiles[],
  resolve: (file: string) => string | Promise<string>,
): Promise<(string | SlicedFiles)[]> {
  const parts = chosen.map(async ({ files, slice }) => {
    const paths = await Promise.all(files.map(resolve));
    return slice === undefined ? paths : [{ files: paths, slice }];
  });
  return (await Promise.all(parts)).flat();
}

/** @throws {InputError} where the worker downloads nothing */
export function hubOf(hub: Hub | undefined): Hub {
  if (hub !== undefined) return hub;
  throw new InputError(
    (field) => `${field} names a repository of the hub, and this worker downloads none.`,
    { path: [], accepted: "a name relative to the root" },
  );
}

/** Names of a folder's files that are rows or say which are. */
async function* folderFiles(
  folder: string,
  prefix: string,
  depth: number,
  closed: readonly string[],
): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(join(folder, prefix))) {
    if (isDirectory && depth > 1 && !/^[._]/.test(name) && !isClosed(join(folder, prefix, name), closed)) {
      yield* folderFiles(folder, `${prefix}${name}/`, depth - 1, closed);
    } else if (!isDirectory && (isDataFile(name) || name === "README.md")) yield `${prefix}${name}`;
  }
}
