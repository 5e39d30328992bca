/**
 * `deno task wgsl [NAME] [MODEL]`: a kernel as the device compiles it, constants filled in and directives expanded. The
 * kernels are those of a training step of all weights of the model, examples/tiny-llama unless a folder is named, by the
 * policy of each kind of device; without a name they are listed. It needs no GPU.
 */
import { fileURLToPath } from "node:url";
import { definedKernels, type Gpu, type KernelPolicy, PaperDevice, policyFor } from "../src/gpu/mod.ts";
import { readModelConfig } from "../src/model/config.ts";
import { declareDecoder } from "../src/model/loading.ts";
import { storedDtypes } from "../src/model/weights.ts";
import { TrainStep } from "../src/training/step.ts";
import { indented } from "./_indented.ts";

const EXAMPLE = fileURLToPath(new URL("../examples/tiny-llama", import.meta.url));
const TOKENS = 512;
const SETTINGS = {
  ...{ adam_beta1: 0.9, adam_beta2: 0.999, adam_epsilon: 1e-8, weight_decay: 0, max_grad_norm: 1 },
  method: { type: "simpo", beta: 2, gamma: 1, loss_type: "sigmoid", label_smoothing: 0, sft_weight: 0 },
} as const;
const DEVICES = [
  { software: true, subgroupSize: 8 },
  { software: true, subgroupSize: 0 },
  { software: false, subgroupSize: 32 },
];

/** Takes a tensor's place on paper, and writes nothing. */
class PaperGpu extends PaperDevice {
  readonly scratch = { declare: (name: string, count: number) => this.tensor(name, [count]) };

  constructor(readonly policy: KernelPolicy) {
    super(Infinity);
  }

  write(): void {}
}

/**
 * Records a training step by the policy of every kind of device.
 *
 * @returns the text of its kernels by name; those of one name differ in their constants
 */
export async function expandedKernels(model = EXAMPLE): Promise<Map<string, string[]>> {
  const config = await readModelConfig(model);
  const stored = await storedDtypes(model);
  for (const device of DEVICES) {
    const gpu = new PaperGpu(policyFor(device)) as unknown as Gpu;
    const { decoder, trained } = declareDecoder(gpu, config, stored, { trainable: true, quantization: null });
    const budget = { tokens: TOKENS, rows: TOKENS, sequences: TOKENS };
    new TrainStep(gpu, { decoder, segments: trained!.segments, settings: SETTINGS }, budget);
  }
  const texts = new Map<string, string[]>();
  for (const { name, code } of definedKernels()) texts.set(name, [...texts.get(name) ?? [], code]);
  return texts;
}

if (import.meta.main) {
  const [name, model] = Deno.args;
  const texts = await expandedKernels(model);
  const names = [...texts.keys()].sort();
  if (name === undefined) console.log(names.join("\n"));
  else if (texts.has(name)) console.log(texts.get(name)!.map(indented).join("\n// with other constants\n\n"));
  else {
    console.error(`No kernel is called ${name}; there are:\n${names.join("\n")}`);
    Deno.exit(1);
  }
}
