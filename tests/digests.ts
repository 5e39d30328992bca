/**
 * Digests of what scoring and training compute, a line a case: what two commits have in common they compute bit for bit, on
 * one machine. `deno task digests [words of the cases]`.
 */
import { createHash } from "node:crypto";
import { Gpu, type MatmulDesign } from "../src/gpu/mod.ts";
import { readAdapter } from "../src/model/adapter.ts";
import { readModelConfig } from "../src/model/config.ts";
import { loraSpecs, withLora } from "../src/model/decoder.ts";
import { loadDecoder } from "../src/model/loading.ts";
import { TrainedParameters } from "../src/model/parameters.ts";
import { WeightFiles } from "../src/model/safetensors.ts";
import { encodedGroup, scoreGroups, SIMPO, trainingStep } from "./helpers/decoder_step.ts";
import { chatRows, plainRows, TINY_FAMILIES } from "./helpers/tiny_model.ts";
import { filesOf, itemOf, type JobOptions, Lab } from "./engine/_lab.ts";
import { FAMILIES, readFamily } from "./reference/families.ts";
import { readReference, VALUES } from "./reference/values.ts";

/** A name with what is computed under it. */
type Case = readonly [name: string, compute: () => Promise<unknown>];

/** SHA-256 of values in the order in which they stand. */
function digestOf(value: unknown): string {
  const hash = createHash("sha256");
  const add = (part: unknown): void => {
    if (ArrayBuffer.isView(part)) {
      hash.update(new Uint8Array(part.buffer, part.byteOffset, part.byteLength));
    } else if (part instanceof Map) {
      for (const [name, own] of part) add([name, own]);
    } else if (typeof part === "object" && part !== null) {
      for (const [name, own] of Object.entries(part)) add(`${name}:`), add(own);
    } else hash.update(`${JSON.stringify(part)};`);
  };
  add(value);
  return hash.digest("hex").slice(0, 24);
}

const rows = [...plainRows(12), ...chatRows(12)];
const completions = plainRows(12).map(({ prompt, chosen }) => ({ prompt, completion: chosen }));

/** What differs from a job of 20 steps; each is run with LoRA and, where nothing speaks against it, full fine-tuning. */
const JOBS: Readonly<Record<string, JobOptions>> = {
  plain: {},
  "recomputed": { activation_recomputation: true },
  "small micro-batches": { micro_batch_tokens: 96 },
  "hinge": { method: { type: "simpo", loss_type: "hinge", gamma: 1 } },
  "label smoothing and sft_weight": { method: { type: "simpo", label_smoothing: 0.1, sft_weight: 0.3 } },
  "sft": { method: { type: "sft" }, rows: completions, eval_rows: completions.slice(0, 4) },
  "weight decay, cosine, no clip": { weight_decay: 0.1, lr_scheduler_type: "cosine", max_grad_norm: 0 },
};
const LORA_JOBS: Readonly<Record<string, JobOptions>> = {
  "dropout": { lora: { r: 4, dropout: 0.3 } },
  "attention alone, rslora": { lora: { r: 3, target_modules: ["q_proj", "v_proj"], use_rslora: true } },
  "whole modules": { lora: { r: 4, modules_to_save: ["lm_head", "embed_tokens"] } },
  "int8 base": { quantization: "int8" },
};

/** @param lab owns the models */
async function* engineCases(lab: Lab): AsyncGenerator<Case> {
  const models = {
    llama: {},
    "llama bf16, untied, sharded": { dtype: "BF16", tied: false, sharded: true },
    "llama f16": { dtype: "F16" },
    ...Object.fromEntries(Object.entries(TINY_FAMILIES).map(([name, config]) => [name, { config }])),
  } as const;
  const items = [...rows.map(itemOf), ...plainRows(3).map(itemOf)];
  const many = [{
    prompt: "the same prompt",
    candidates: Array.from({ length: 17 }, (_, i) => `answer ${i}`),
  }];
  for (const [name, options] of Object.entries(models)) {
    const model = await lab.writeModel(name.replaceAll(/\W+/g, "-"), options);
    for (const quantization of [null, "int8"] as const) {
      const score = (part: typeof items) => lab.score(part, { model, quantization, token_logprobs: true });
      yield [`score ${name}${quantization ? " int8" : ""}`, async () => [
        await score(items),
        await score(items.slice(0, 3)), // their prompts are cached
        await score(many),
      ]];
    }
    const job = { model, rows, eval_rows: rows.slice(0, 4), batch_size: 4, logging_steps: 1, eval_steps: 10 };
    const run = async (options: JobOptions) => {
      const { metrics, result } = await lab.train({ ...job, max_steps: 20, learning_rate: 1e-3, ...options });
      const files = Object.entries(await filesOf(result)).filter(([name]) => name.endsWith(".safetensors"));
      return { metrics, files: files.sort() };
    };
    for (const [what, options] of Object.entries(name === "llama" ? JOBS : { plain: {} })) {
      yield [`train LoRA ${name}, ${what}`, () => run(options)];
      yield [`train full ${name}, ${what}`, () => run({ lora: null, ...options })];
    }
    if (name !== "llama") continue;
    for (const [what, options] of Object.entries(LORA_JOBS)) {
      yield [`train LoRA ${name}, ${what}`, () => run(options)];
    }
  }
}

const DESIGNS: readonly MatmulDesign[] = ["subgroup", "direct", "tiled"];

/** One step and one scoring of the reference models, by every design of kernels and every switch of a pass. */
async function* passCases(): AsyncGenerator<Case> {
  const switches = {
    plain: {},
    "recomputed": { recompute: true },
    "vocabulary in chunks": { logits_bytes: 1 },
  };
  for (const matmul of DESIGNS) {
    for (const rowLanes of [1, 64] as const) {
      for (const maxTensorBytes of [undefined, 24_000]) {
        const gpu = await Gpu.open({
          device: "auto",
          policy: { matmul, row_lanes: rowLanes },
          ...(maxTensorBytes && { maxTensorBytes }),
        });
        const design = `${matmul}, ${rowLanes} lanes${maxTensorBytes ? ", small tensors" : ""}`;
        for (const [name, options] of Object.entries(switches)) {
          for (const kind of ["full", "lora"] as const) {
            yield [`step grouped ${kind}, ${design}, ${name}`, () => stepOf(gpu, kind, options)];
          }
        }
        if (maxTensorBytes === undefined && rowLanes === 64) {
          for (const family of FAMILIES) yield [`step ${family}, ${design}`, () => familyStep(gpu, family)];
        }
        gpu.close();
      }
    }
  }
}

async function stepOf(
  gpu: Gpu,
  kind: "full" | "lora",
  options: { recompute?: boolean; logits_bytes?: number },
) {
  const dir = `${VALUES}/grouped/model`;
  const { pairs } = await readReference("grouped");
  const groups = pairs.map(({ prompt, chosen, rejected }, i) => encodedGroup(prompt, [chosen, rejected], i));
  using checkpoint = await WeightFiles.open(dir);
  const config = await readModelConfig(dir);
  const loaded = await loadDecoder(gpu, checkpoint, config, { trainable: kind === "full" });
  const batches = [groups.slice(0, 2), groups.slice(2, 4)];
  const method = { ...SIMPO, label_smoothing: 0.1, sft_weight: 0.3 };
  if (kind === "full") {
    const whole = { decoder: loaded.decoder, trained: loaded.trained! };
    const step = await trainingStep(gpu, whole, batches, { options, method });
    const scored = await scoreGroups(gpu, loaded.decoder, groups.slice(0, 2));
    loaded.free();
    return { step, scored };
  }
  const adapter = await readAdapter(`${VALUES}/grouped/adapter`, config);
  const trained = new TrainedParameters(gpu, loraSpecs(config, adapter.config));
  for (const { module, a, b } of adapter.tensors) {
    gpu.write(trained.get(`${module.path}.lora_A`).value, a);
    gpu.write(trained.get(`${module.path}.lora_B`).value, b);
  }
  const scale = adapter.config.lora_alpha / adapter.config.r;
  const decoder = withLora(loaded.decoder, (name) => trained.parameters.get(name), scale, 0.2);
  const step = await trainingStep(gpu, { decoder, trained }, batches, { options, method, dropoutSeed: 5 });
  trained.free();
  loaded.free();
  return { step };
}

async function familyStep(gpu: Gpu, family: typeof FAMILIES[number]) {
  const dir = `${VALUES}/families/${family}`;
  const { pairs } = await readFamily(family);
  const groups = pairs.map(({ prompt, chosen, rejected }, i) => encodedGroup(prompt, [chosen, rejected], i));
  using checkpoint = await WeightFiles.open(dir);
  const loaded = await loadDecoder(gpu, checkpoint, await readModelConfig(dir), { trainable: true });
  const step = await trainingStep(gpu, { decoder: loaded.decoder, trained: loaded.trained! }, [groups]);
  loaded.free();
  return step;
}

async function print(cases: AsyncIterable<Case>): Promise<void> {
  for await (const [name, compute] of cases) {
    if (!Deno.args.every((word) => name.includes(word))) continue;
    const digest = await compute().then(digestOf, (error: Error) => error.message);
    console.log(`${digest}  ${name}`);
  }
}

await print(passCases());
await using lab = await Lab.open();
await print(engineCases(lab));
