import { readFile } from "node:fs/promises";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type Family, familyFolder } from "./families.ts";
import { VALUES } from "./values.ts";

/** Adapters that `make_peft.py` made. */
export const PEFT_ADAPTERS = [
  "llama",
  "llama_patterns",
  "mistral",
  "qwen2_values",
  "qwen3",
  "qwen3_norms",
  "gemma2_embedding",
  "gemma3",
  "gemma3_tied",
  "phi3",
  "phi3_head",
  "gpt2",
  "gpt2_saved",
  "olmo2",
  "granite",
] as const;

/** One of {@link PEFT_ADAPTERS}. */
export type PeftAdapter = typeof PEFT_ADAPTERS[number];

/** What transformers and PEFT compute with an adapter, for the pairs and candidates of its family. */
export interface PeftValues {
  readonly family: Family;
  /** Of the pairs, by the settings of the family's loss `sigmoid`. */
  readonly loss: number;
  /** Of the pairs, per sequence, per response token. */
  readonly token_logprobs: readonly (readonly number[])[];
  /** Per response, per token. */
  readonly candidates: readonly (readonly number[])[];
  /** Folder of the PEFT files. */
  readonly folder: string;
  /** Folder of the base model. */
  readonly base: string;
}

/** Reads an adapter's reference.json. */
export async function readPeft(adapter: PeftAdapter): Promise<PeftValues> {
  const folder = `${VALUES}/peft/${adapter}`;
  const values = JSON.parse(await readFile(`${folder}/reference.json`, "utf8"));
  return { ...values, folder, base: familyFolder(values.family) };
}

/** Gradients of the loss by all that the adapter trains, by the names and in the orientation of its file. */
export async function readPeftGradients({ folder }: PeftValues): Promise<Map<string, Float32Array>> {
  using checkpoint = await WeightFiles.openFile(`${folder}/gradients.safetensors`);
  const gradients = new Map<string, Float32Array>();
  for (const name of checkpoint.names()) gradients.set(name, await checkpoint.readF32(name));
  return gradients;
}
