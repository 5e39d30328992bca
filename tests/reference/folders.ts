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

/** Adapters that `make_folders.py` made, as PEFT saves them. */
export const FOLDER_ADAPTERS = [
  "wrapped",
  "eva",
  "orthogonal",
  "resized",
  "resized_tied",
  "resized_saved",
] as const;

/** What transformers and PEFT compute with an adapter. */
export interface FolderAdapterValues extends Pick<FamilyValues, "candidates"> {
  /** Folder of the PEFT files. */
  readonly folder: string;
  /** Folder of the base model. */
  readonly base: string;
}

/** Reads an adapter's reference.json. */
export async function readFolderAdapter(name: typeof FOLDER_ADAPTERS[number]): Promise<FolderAdapterValues> {
  const folder = `${VALUES}/folder_adapters/${name}`;
  const { base, candidates } = JSON.parse(await readFile(`${folder}/reference.json`, "utf8"));
  return { folder, base: `${VALUES}/${base}`, candidates };
}

/** What transformers' classes fill in for a config.json that says little. */
export interface DefaultsCase {
  readonly config: Readonly<Record<string, unknown>>;
  readonly expected: Readonly<Record<string, unknown>> & {
    readonly windows: readonly (number | null)[];
    readonly rope_thetas: readonly number[];
    readonly query_pre_attn_scalar: number | null;
    /** What scores are multiplied by; null: a power of the scalar, or of the head's size. */
    readonly attention_multiplier: number | null;
    /** By layer. */
    readonly rotated: readonly boolean[];
    /** Of attention and of the logits. */
    readonly softcaps: readonly (number | null)[];
  };
}

/** Reads defaults.json. */
export async function readDefaults(): Promise<DefaultsCase[]> {
  return JSON.parse(await readFile(`${VALUES}/folders/defaults.json`, "utf8"));
}
