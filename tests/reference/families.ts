import { readFile } from "node:fs/promises";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type ReferencePair, type ReferenceResults, VALUES } from "./values.ts";

/** Models that `make_families.py` made values for. */
export const FAMILIES = [
  "mistral",
  "qwen2",
  "qwen2_window",
  "qwen3",
  "gemma2",
  "gemma3_text",
  "phi3",
  "phi3_window",
  "phi3_longrope",
  "phi3_partial",
  "gpt2",
  "gpt2_odd",
  "llama_linear",
  "llama_dynamic",
  "llama_llama3",
  "llama_yarn",
  "olmo2",
  "llama_bias",
  "qwen3_bias",
  "smollm3",
  "granite",
  "gemma",
] as const;

/** One of {@link FAMILIES}. */
export type Family = typeof FAMILIES[number];

/** Rotary angles a position by transformers. */
export interface ReferenceRotary {
  /** The kind of layer that it is for; null: all. */
  readonly layer_type: "sliding_attention" | "full_attention" | null;
  /** Tokens of the sequence (prompt and response) that gives these frequencies; null: any. */
  readonly length: number | null;
  /** [rotated dimensions of a head / 2], float32 values. */
  readonly frequencies: readonly number[];
  /** Multiplies cosines and sines. */
  readonly attention_factor: number;
}

/** The contents of a family's reference.json. */
export interface FamilyValues {
  /** Empty for GPT-2. */
  readonly rotary: readonly ReferenceRotary[];
  readonly pairs: readonly ReferencePair[];
  readonly full: ReferenceResults;
  /** Candidates under one prompt. */
  readonly candidates: {
    readonly prompt: readonly number[];
    readonly responses: readonly (readonly number[])[];
    /** Per response, per token. */
    readonly token_logprobs: readonly (readonly number[])[];
    readonly average_logprobs: readonly number[];
  };
}

/** A config.json (in either spelling) and the rotary angles that transformers takes from it. */
export interface RopeCase {
  readonly config: Readonly<Record<string, unknown>>;
  readonly rotary: readonly ReferenceRotary[];
}

/** Folder of a family's model: config.json, config_transformers4.json, model.safetensors (f32). */
export function familyFolder(family: Family): string {
  return `${VALUES}/families/${family}`;
}

/** Reads a family's reference.json. */
export async function readFamily(family: Family): Promise<FamilyValues> {
  return JSON.parse(await readFile(`${familyFolder(family)}/reference.json`, "utf8"));
}

/** Gradients of the loss `sigmoid` by all weights, by Hugging Face's names. */
export async function readFamilyGradients(family: Family): Promise<Map<string, Float32Array>> {
  using checkpoint = await WeightFiles.openFile(`${familyFolder(family)}/gradients.safetensors`);
  const gradients = new Map<string, Float32Array>();
  for (const name of checkpoint.names()) gradients.set(name, await checkpoint.readF32(name));
  return gradients;
}

/** Rotary settings of published models and of every option, without a model. */
export async function readRopeCases(): Promise<RopeCase[]> {
  return JSON.parse(await readFile(`${VALUES}/families/rope.json`, "utf8"));
}
