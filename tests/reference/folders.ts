import { readFile } from "node:fs/promises";
import type { FamilyValues } from "./families.ts";
import { VALUES } from "./values.ts";

/** Model folders that `make_folders.py` made values for. */
export const FOLDERS = ["gemma3", "mistral3", "own_head"] as const;

/** One of {@link FOLDERS}. */
export type ModelFolder = typeof FOLDERS[number];

/** A folder with config.json and model.safetensors (bf16). */
export function modelFolder(name: ModelFolder): string {
  return `${VALUES}/folders/${name}`;
}

/** Reads a folder's reference.json. */
export async function readFolderValues(name: ModelFolder): Promise<Pick<FamilyValues, "candidates">> {
  return JSON.parse(await readFile(`${modelFolder(name)}/reference.json`, "utf8"));
}
