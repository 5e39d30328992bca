import { readFile } from "node:fs/promises";

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
  readonly values: Float64Array | Float32Array;
}

/**
 * Reads a safetensors file of F64 or F32 tensors. Kept apart from the worker's own reader, which this would
 * otherwise be a test of.
 */
export async function readTensors(path: string): Promise<Map<string, ReferenceTensor>> {
  const { buffer } = Uint8Array.from(await readFile(path));
  const headerLength = Number(new DataView(buffer).getBigUint64(0, true));
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON
    .parse(new TextDecoder().decode(new Uint8Array(buffer, 8, headerLength)));
  const tensors = new Map<string, ReferenceTensor>();
  for (const [name, info] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets: [begin, end] } = info;
    const bytes = buffer.slice(8 + headerLength + begin, 8 + headerLength + end);
    if (dtype !== "F64" && dtype !== "F32") throw new TypeError(`${path}: ${name} is ${dtype}`);
    tensors.set(name, { shape, values: dtype === "F64" ? new Float64Array(bytes) : new Float32Array(bytes) });
  }
  return tensors;
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
  return readTensors(`${VALUES}/${model}/${kind === "full" ? "" : "lora_"}gradients.safetensors`);
}
