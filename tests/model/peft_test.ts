/** Adapters that PEFT saved, of every family: log-probs, loss and gradients, merged weights, and files given back. */
import assert from "node:assert/strict";
import { Gpu } from "../../src/gpu/mod.ts";
import { openAdapter, readAdapter } from "../../src/model/adapter.ts";
import { readModelConfig } from "../../src/model/config.ts";
import type { Decoder } from "../../src/model/decoder.ts";
import { loadAdapter, loadDecoder } from "../../src/model/loading.ts";
import { exportMerged } from "../../src/model/export.ts";
import { linearModules, linearNames, weightSpecs } from "../../src/model/modules.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { adapterName, transpose } from "../../src/model/weights.ts";
import { trainableLora } from "../../src/training/trainable_lora.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { encodedGroup, scoreGroups, SIMPO, trainingStep } from "../helpers/decoder_step.ts";
import { settingsOf as settingsOfJob } from "../helpers/settings.ts";
import { familyFolder, readFamily } from "../reference/families.ts";
import { PEFT_ADAPTERS, type PeftValues, readPeft, readPeftGradients } from "../reference/peft.ts";
import { readReference, VALUES } from "../reference/values.ts";

const gpu = await Gpu.open({ device: "auto" });
const scratch = await Deno.makeTempDir();
Deno.test.afterAll(async () => {
  gpu.close();
  await Deno.remove(scratch, { recursive: true });
});

async function loadBase(folder: string) {
  using checkpoint = await WeightFiles.open(folder);
  return await loadDecoder(gpu, checkpoint, await readModelConfig(folder), { trainable: false });
}

/** The candidates' log-probs by a decoder against PEFT's. */
async function checkCandidates(decoder: Decoder, { family, candidates }: PeftValues, name: string) {
  const { prompt, responses } = (await readFamily(family)).candidates;
  const { logprobs } = await scoreGroups(gpu, decoder, [encodedGroup(prompt, responses)]);
  assertClose(logprobs, candidates.flat(), { rtol: 0, atol: 1e-4, name });
}

/** Training settings of the form that an adapter has. */
async function settingsOf({ folder, base }: PeftValues) {
  const { config, tensors } = await readAdapter(folder, await readModelConfig(base));
  return {
    r: config.r,
    alpha: config.lora_alpha,
    dropout: 0,
    use_rslora: config.use_rslora,
    ...config.rank_pattern && { rank_pattern: config.rank_pattern },
    ...config.alpha_pattern && { alpha_pattern: config.alpha_pattern },
    target_modules: tensors.map(({ module }) => module.path),
    modules_to_save: config.modules_to_save,
    ensure_weight_tying: config.ensure_weight_tying,
    init_adapter: folder,
  };
}

async function checkGradients(values: PeftValues, recompute: boolean): Promise<void> {
  const { base, folder, family, loss, token_logprobs } = values;
  const { pairs, full } = await readFamily(family);
  const loaded = await loadBase(base);
  const settings = await settingsOf(values);
  const options = { model: base, seed: 1, init: folder, resume: null };
  const { decoder, trained, free } = await trainableLora(gpu, loaded.decoder, settings, options);
  const groups = pairs.map(({ prompt, chosen, rejected }) => encodedGroup(prompt, [chosen, rejected]));
  const { beta, gamma } = full.losses.sigmoid;
  const { logprobs, metrics, gradients } = await trainingStep(gpu, { decoder, trained }, [groups], {
    options: { recompute },
    method: { ...SIMPO, beta, gamma },
  });
  free();
  loaded.free();
  assertClose(logprobs, token_logprobs.flat(), { rtol: 0, atol: 1e-4, name: "log-probs" });
  assertClose([metrics.loss!], [loss], { rtol: 1e-4, name: "loss" });
  const expected = await readPeftGradients(values);
  const inFile = (name: string) => expected.has(name) ? name : adapterName(name); // a saved module's weight
  assert.deepEqual([...gradients.keys()].map(inFile).sort(), [...expected.keys()].sort());
  const specs = new Map(weightSpecs(decoder.config).map((spec) => [spec.name, spec]));
  for (const [name, actual] of gradients) {
    const values = expected.get(inFile(name))!;
    const spec = specs.get(name);
    const turned = spec?.transposed ? transpose(values, spec.shape[1]!) : values;
    assertClose(actual, turned, { rtol: 1e-4, name });
  }
}

for (const adapter of PEFT_ADAPTERS) {
  Deno.test(`loadAdapter() scores with PEFT's ${adapter} as PEFT does`, async () => {
    const values = await readPeft(adapter);
    const base = await loadBase(values.base);
    const before = gpu.memory.bytes;
    const { decoder, free } = await loadAdapter(gpu, base.decoder, values.folder);
    await checkCandidates(decoder, values, adapter);
    free();
    assert.equal(gpu.memory.bytes, before);
    base.free();
  });

  Deno.test(`exportMerged() merges PEFT's ${adapter} as PEFT does`, async () => {
    const values = await readPeft(adapter);
    const merged = `${scratch}/${adapter}`;
    await exportMerged(values.base, values.folder, merged);
    const { decoder, free } = await loadBase(merged);
    await checkCandidates(decoder, values, adapter);
    free();
  });

  Deno.test(`trainableLora() goes on from PEFT's ${adapter} with PEFT's gradients, and saves it as it was`, async () => {
    const values = await readPeft(adapter);
    for (const recompute of [false, true]) await checkGradients(values, recompute);
    const base = await loadBase(values.base);
    const settings = await settingsOf(values);
    const options = { model: values.base, seed: 1, init: values.folder, resume: null };
    const trainable = await trainableLora(gpu, base.decoder, settings, options);
    const out = `${scratch}/${adapter}_again`;
    await Deno.mkdir(out);
    await trainable.save(out);
    trainable.free();
    base.free();
    const file = (folder: string) => Deno.readFile(`${folder}/adapter_model.safetensors`);
    assert.deepEqual(await file(out), await file(values.folder));
  });
}

Deno.test("trainableLora() splits a saved table for a small device where the frozen one fits", async () => {
  const base = `${VALUES}/tied/model_f16`;
  const gradientsOf = async (gpu: Gpu) => {
    using checkpoint = await WeightFiles.open(base);
    const config = await readModelConfig(base);
    const loaded = await loadDecoder(gpu, checkpoint, config, { trainable: false });
    assert.equal(loaded.decoder.embedding.length, 1);
    const lora = {
      r: 2,
      alpha: 4,
      dropout: 0,
      use_rslora: false,
      target_modules: ["q_proj"],
      modules_to_save: ["lm_head"],
      ensure_weight_tying: true,
      init_adapter: null,
    };
    const options = { model: base, seed: 1, init: null, resume: null };
    const { decoder, trained, save, free } = await trainableLora(gpu, loaded.decoder, lora, options);
    const { pairs } = await readReference("tied");
    const { prompt, chosen, rejected } = pairs[0]!;
    const groups = [encodedGroup(prompt, [chosen, rejected])];
    const { gradients } = await trainingStep(gpu, { decoder, trained }, [groups], { dAverages: [1, -1] });
    const out = await Deno.makeTempDir({ dir: scratch });
    await save(out);
    using file = await openAdapter(out);
    const table = await file.readF32(adapterName("lm_head.weight"));
    assert.deepEqual(table, await checkpoint.readF32("model.embed_tokens.weight"));
    const runs = [...trained.parameters.keys()].filter((name) => name.includes("embed_tokens")).length;
    free();
    loaded.free();
    return { runs, gradient: gradients.get("model.embed_tokens.weight")! };
  };
  const small = await Gpu.open({ device: "auto", maxTensorBytes: 12_000 });
  const whole = await gradientsOf(gpu);
  const split = await gradientsOf(small);
  small.close();
  assert.deepEqual([whole.runs, split.runs], [1, 2]);
  assertClose(split.gradient, whole.gradient, { rtol: 1e-5 });
});

Deno.test("loadAdapter() takes fan_in_fan_out for what the layers are, as PEFT does", async () => {
  const values = await readPeft("gpt2");
  const folder = await Deno.makeTempDir({ dir: scratch });
  const file = "adapter_model.safetensors";
  await Deno.copyFile(`${values.folder}/${file}`, `${folder}/${file}`);
  const config = JSON.parse(await Deno.readTextFile(`${values.folder}/adapter_config.json`));
  assert.equal(config.fan_in_fan_out, true);
  const wrong = JSON.stringify({ ...config, fan_in_fan_out: false });
  await Deno.writeTextFile(`${folder}/adapter_config.json`, wrong);
  const base = await loadBase(values.base);
  const { decoder, free } = await loadAdapter(gpu, base.decoder, folder);
  await checkCandidates(decoder, values, "gpt2, fan_in_fan_out false");
  free();
  base.free();
});

Deno.test("readAdapter() refuses an adapter whose file lacks a saved module, or holds it in another shape", async () => {
  const { folder, base } = await readPeft("gemma3_tied");
  const model = await readModelConfig(base);
  using checkpoint = await openAdapter(folder);
  const tensors = await Promise.all(
    checkpoint.names().map(async (name) => {
      const { shape } = checkpoint.info(name);
      return { name, dtype: "F32" as const, shape, data: await checkpoint.read(name) };
    }),
  );
  const out = await Deno.makeTempDir({ dir: scratch });
  await Deno.copyFile(`${folder}/adapter_config.json`, `${out}/adapter_config.json`);
  for (const weight of ["lm_head.weight", "model.embed_tokens.weight"]) {
    const name = adapterName(weight);
    const rest = tensors.filter((tensor) => tensor.name !== name);
    await writeSafetensors(`${out}/adapter_model.safetensors`, rest);
    await assert.rejects(readAdapter(out, model), { name: "InputError", message: new RegExp(`"${name}"`) });
    const narrow = { name, dtype: "F32" as const, shape: [1], data: new Uint8Array(4) };
    await writeSafetensors(`${out}/adapter_model.safetensors`, [...rest, narrow]);
    await assert.rejects(readAdapter(out, model), { name: "InputError", message: /has the shape \[1\]/ });
  }
});

for (const family of ["phi3", "gpt2", "gemma2"] as const) {
  Deno.test(`trainableLora() writes all-linear by ${family}'s names, and a head apart from its embedding`, async () => {
    const base = familyFolder(family);
    const loaded = await loadBase(base);
    const { lora } = settingsOfJob({ lora: { r: 2, modules_to_save: ["lm_head"] } });
    const options = { model: base, seed: 1, init: null, resume: null };
    const { save, free } = await trainableLora(gpu, loaded.decoder, lora!, options);
    const out = await Deno.makeTempDir({ dir: scratch });
    await save(out);
    free();
    loaded.free();
    const model = await readModelConfig(base);
    const { config, tensors } = await readAdapter(out, model);
    assert.deepEqual(config.target_modules, linearNames(model));
    assert.deepEqual(tensors.map(({ module }) => module), linearModules(model));
    using file = await openAdapter(out);
    using checkpoint = await WeightFiles.open(base);
    const table = model.tie_word_embeddings ? `${model.plan.names.embedding}.weight` : "lm_head.weight";
    assert.deepEqual(await file.readF32(adapterName("lm_head.weight")), await checkpoint.readF32(table));
    const unchanged = `${out}/merged`;
    await exportMerged(base, out, unchanged);
    using merged = await WeightFiles.open(unchanged);
    assert.deepEqual(await merged.readF32("lm_head.weight"), await checkpoint.readF32(table));
    assert.equal((await readModelConfig(unchanged)).tie_word_embeddings, false);
  });
}

Deno.test("exportMerged() leaves the numbers of config.json as they are written", async () => {
  const { base, folder } = await readPeft("gemma2_embedding");
  const out = await Deno.makeTempDir({ dir: scratch });
  await exportMerged(base, folder, out);
  const numbers = async (dir: string) =>
    (await Deno.readTextFile(`${dir}/config.json`)).match(/"\w+": [-\d.e]+/g)!.sort();
  assert.deepEqual(await numbers(out), await numbers(base));
  assert.ok((await numbers(out)).includes('"final_logit_softcapping": 2.0'));
});
