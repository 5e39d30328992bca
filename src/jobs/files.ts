/** Names of a request as files of this machine. */
import { join } from "node:path";
import type { Dataset } from "../engine/protocol.ts";
import { InputError } from "../errors.ts";
import { resolveInside } from "../paths.ts";
import { isDataFile, selectDataFiles } from "../preference/data_files.ts";
import type { DatasetSpec } from "./spec.ts";

/** How deep a data set's folder is looked through: `default/train/0000.parquet`. */
const maxDepth = 3;

/**
 * Finds the files of a data set under the root.
 *
 * @param field The data set's place in the request, for the error
 * @throws InputError where there is no such file or split, or as `resolveInside`
 */
export async function resolveDataset(root: string, dataset: DatasetSpec, field: string): Promise<Dataset> {
  if ("rows" in dataset) return dataset;
  const { path: name, split } = dataset;
  const path = await resolveInside(root, name, `${field}.path`, "file or directory");
  if ((await Deno.stat(path)).isFile) {
    if (split === undefined) return { path };
    throw new InputError(
      `${field}.split is for folders, and ${JSON.stringify(name)} is a file: leave it out.`,
      {
        field: `${field}.split`,
        value: split,
        accepted: "no split beside a file",
      },
    );
  }
  const names = await Array.fromAsync(dataFiles(path, "", maxDepth));
  const chosen = selectDataFiles(
    names,
    split ?? "train",
    split === undefined ? `${field}.path` : `${field}.split`,
  );
  return {
    paths: await Promise.all(
      chosen.map((file) => resolveInside(root, join(name, file), `${field}.path`, "file")),
    ),
  };
}

/** Names of the files of rows in a folder and those in it. */
async function* dataFiles(folder: string, prefix: string, depth: number): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(join(folder, prefix))) {
    if (isDirectory && depth > 1 && !/^[._]/.test(name)) {
      yield* dataFiles(folder, `${prefix}${name}/`, depth - 1);
    } else if (!isDirectory && isDataFile(name)) yield `${prefix}${name}`;
  }
}
