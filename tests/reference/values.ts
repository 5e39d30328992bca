import { readFile } from "node:fs/promises";
import { WeightFiles } from "../../src/model/safetensors.ts";

/** Where the reference values lie. */
export const VALUES: string = new URL("./values", import.meta.url).pathname;

/** Models that `make_llama.py` made values for. */
export const REFERENCE_MODELS = ["tied", "grouped", "odd"] as const;

/** One of {@link REFERENCE_MODELS}. */
export type ReferenceModel = typeof REFERENCE_MODELS[number];

/** A loss by PyTorch, with the settings that gave it. */
export interface ReferenceLoss {
  readonly loss_type: "sigmoid" | "hinge";
  readonly label_smoothing: number;
  readonly sft_weight: number;
  readonly beta: number;
  readonly gamma: number;
  readonly loss: number;
  /** [2 · pairs] */
  readonly d_average_logprobs: readonly number[];
}

/** What PyTorch computes for the pairs; sequences are chosen and rejected of each pair in turn. */
export interface ReferenceResults {
  /** Per sequence, per response token. */
  readonly token_logprobs: readonly (readonly number[])[];
  readonly average_logprobs: readonly number[];
  /** Mean over a sequence's scored rows and the vocabulary. */
  readonly mean_logits: readonly number[];
  readonly losses: Readonly<
    Record<"sigmoid" | "sigmoid_label_smoothing" | "hinge" | "sigmoid_sft", ReferenceLoss>
  >;
  /** Norm of the gradients by the loss `sigmoid`, over all trained parameters. */
  readonly grad_norm: number;
}

/** A prompt with two responses, as token ids. */
export interface ReferencePair {
  readonly prompt: readonly number[];
  readonly chosen: readonly number[];
  readonly rejected: readonly number[];
}

/** The contents of a model's reference.json. */
export interface ReferenceValues {
  /** [head_dim / 2], the float32 values of transformers. */
  readonly rotary_frequencies: readonly number[];
  readonly pairs: readonly ReferencePair[];
  readonly full: ReferenceResults;
  readonly lora: ReferenceResults & { readonly r: number; readonly alpha: number };
}

/** Reads a model's reference.json. */
export async function readReference(model: ReferenceModel): Promise<ReferenceValues> {
  return JSON.parse(await readFile(`${VALUES}/${model}/reference.json`, "utf8"));
}

/** A tensor of a reference file. */
export interface ReferenceTensor {
  readonly shape: readonly number[];
  readonly values: Float64Array;
}

/** Reads every tensor of an F64 file. */
async function readDoubles(path: string): Promise<Map<string, ReferenceTensor>> {
  using checkpoint = await WeightFiles.openFile(path);
  const tensors = new Map<string, ReferenceTensor>();
  for (const name of checkpoint.names()) {
    const { dtype, shape } = checkpoint.info(name);
    if (dtype !== "F64") throw new TypeError(`${path}: ${name} is ${dtype}`);
    tensors.set(name, { shape, values: new Float64Array((await checkpoint.read(name)).buffer) });
  }
  return tensors;
}

/**
 * Reads all weights of a reference model as f32.
 *
 * @param folder model, or a variant of it: model_f16, model_bf16, model_sharded
 */
export async function readWeights(
  model: ReferenceModel,
  folder = "model",
): Promise<Map<string, Float32Array>> {
  using checkpoint = await WeightFiles.open(`${VALUES}/${model}/${folder}`);
  const weights = new Map<string, Float32Array>();
  for (const name of checkpoint.names()) weights.set(name, await checkpoint.readF32(name));
  return weights;
}

/**
 * Gradients by PyTorch of the loss `sigmoid`: of all weights by Hugging Face's names, or of the adapter by PEFT's.
 *
 * @param kind full: names such as model.layers.0.mlp.up_proj.weight; lora: base_model.model.model.layers.0. ...
 */
export function readGradients(
  model: ReferenceModel,
  kind: "full" | "lora",
): Promise<Map<string, ReferenceTensor>> {
  return readDoubles(`${VALUES}/${model}/${kind === "full" ? "" : "lora_"}gradients.safetensors`);
}
