/** What the worker is to reach, in the order of the table that `deno task bench` prints. */

/** A bound that a figure should keep. */
export type Bound = { readonly at_least: number } | { readonly at_most: number };

export interface Target {
  readonly what: string;
  readonly unit: string;
  readonly bound: Bound;
  /** Where it means something; everywhere unless given. */
  readonly on?: "software" | "gpu";
  /** What a run needs beside a device. */
  readonly needs?: "--python";
}

const PAIRS = "training step, pairs of a 512-token prompt and 128-token responses, over the same unshared, " +
  "a pair a batch, logits of every token kept";

export const TARGETS: Readonly<Record<string, Target>> = {
  "matmul over WebGPU peers": {
    what: "matmul 1024^3 f32 over the best of onnxruntime-web, tfjs and jax-js on WebGPU",
    unit: "times",
    bound: { at_least: 8 },
    on: "software",
  },
  "matmul over WebAssembly peers": {
    what: "matmul 1024^3 f32 over the best of tfjs and jax-js on WebAssembly",
    unit: "times",
    bound: { at_least: 1 },
    on: "software",
  },
  "matmul without subgroups": {
    what: "matmul 1024^3 f32 without subgroups over the best WebGPU peer",
    unit: "times",
    bound: { at_least: 4 },
    on: "software",
  },
  "skeleton": {
    what: "training step, all weights, 1,024 scored tokens: rate of its matrix products over the whole step",
    unit: "of the matmul's rate",
    bound: { at_least: 0.75 },
  },
  "matmul of the ceiling": {
    what: "matmul 4096^3 f32",
    unit: "of the FMA ceiling",
    bound: { at_least: 0.6 },
    on: "gpu",
  },
  "matmul over peers on a GPU": {
    what: "matmul 4096^3 f32 over the best WebGPU peer",
    unit: "times",
    bound: { at_least: 1.2 },
    on: "gpu",
  },
  "attention 64": {
    what: "attention forward and backward, 2,048 tokens, heads of 64",
    unit: "of the FMA ceiling",
    bound: { at_least: 0.4 },
    on: "gpu",
  },
  "attention 128": {
    what: "attention forward and backward, 2,048 tokens, heads of 128",
    unit: "of the FMA ceiling",
    bound: { at_least: 0.4 },
    on: "gpu",
  },
  "pairs, time": { what: PAIRS, unit: "of the time", bound: { at_most: 0.55 } },
  "pairs, bytes": { what: PAIRS, unit: "of the activation bytes", bound: { at_most: 0.5 } },
  "candidates": {
    what: "scoring 16 candidates of 64 tokens under one 512-token prompt, over 16 separate sequences",
    unit: "times as fast",
    bound: { at_least: 5 },
  },
  "scoring utilisation": {
    what: "scoring batch, model FLOPs over time",
    unit: "of the matmul's rate",
    bound: { at_least: 0.8 },
  },
  "training utilisation": {
    what: "training step, model FLOPs over time",
    unit: "of the matmul's rate",
    bound: { at_least: 0.7 },
  },
  "first score": {
    what: "process start to first /score, the example model, warm driver cache",
    unit: "s",
    bound: { at_most: 1 },
  },
  "first score over Python": {
    what: "process start to first /score over that of a Python server with transformers",
    unit: "of the time",
    bound: { at_most: 0.1 },
    needs: "--python",
  },
  "growing tokens": {
    what: "time per token from 256 to 16k tokens of packed short rows: slowest over fastest",
    unit: "ratio",
    bound: { at_most: 1.1 },
  },
  "host time": {
    what: "host time of a training step: packing, upload, encoding, submitting",
    unit: "of the step's time",
    bound: { at_most: 0.05 },
  },
  "host wait": {
    what: "training run, what the device stands still for the host",
    unit: "of the time",
    bound: { at_most: 0.05 },
  },
};
