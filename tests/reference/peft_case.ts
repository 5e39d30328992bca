/**
 * Makes what check_peft.py compares: a tiny model, an adapter that this worker trains on it, the merged export, rows as
 * token ids, and the worker's own scores of them.
 *
 *     deno run -A tests/reference/peft_case.ts FOLDER
 *
 * Two models are made, FOLDER/f32 (tied) and FOLDER/bf16 (untied, sharded), with `sharded` (the merged export in shards)
 * and `full` (all weights trained, saved as f16) beside what each has, and of each family FOLDER/NAME and
 * FOLDER/NAME_saved, whose adapters have random numbers and, in the second, modules_to_save. Each has `model`,
 * `adapter`, `merged`, `rows.json`, `adapter.json` and `merged.json` (scores with the adapter, and of the merged export).
 */
import { join } from "node:path";
import { stream } from "../../src/engine/protocol.ts";
import { startEngine } from "../../src/engine/client.ts";
import { Gpu } from "../../src/gpu/mod.ts";
import { readModelConfig } from "../../src/model/config.ts";
import type { Decoder } from "../../src/model/decoder.ts";
import { loadDecoder } from "../../src/model/loading.ts";
import { type CardForm, writeModelCard } from "../../src/jobs/model_card.ts";
import { exportMerged } from "../../src/model/export.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { encodeComparison } from "../../src/preference/encode.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { trainableLora } from "../../src/training/trainable_lora.ts";
import { itemOf } from "../engine/_lab.ts";
import { encodedGroup, scoreGroups } from "../helpers/decoder_step.ts";
import { random } from "../helpers/random.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { chatRows, plainRows, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";
import { type Family, familyFolder, readFamily } from "./families.ts";

/** What each family saves in full, the head or embedding tied, apart or left alone. */
const FAMILIES: Record<string, { family: Family; modules_to_save: string[]; ensure_weight_tying?: boolean }> =
  {
    llama: { family: "llama_llama3", modules_to_save: ["embed_tokens", "lm_head"] },
    mistral: { family: "mistral", modules_to_save: ["model.norm", "1.mlp"] },
    qwen2: { family: "qwen2", modules_to_save: ["embed_tokens", "k_proj"], ensure_weight_tying: true },
    qwen3: { family: "qwen3", modules_to_save: ["norm"] },
    gemma2: { family: "gemma2", modules_to_save: ["lm_head", "feedforward_layernorm"] },
    gemma3: { family: "gemma3_text", modules_to_save: ["embed_tokens"] },
    phi3: { family: "phi3", modules_to_save: ["lm_head", "qkv_proj"] },
    gpt2: { family: "gpt2", modules_to_save: ["wte", "wpe", "ln_1", "c_fc"], ensure_weight_tying: true },
  };

const CASES: Record<string, TinyModelOptions> = {
  f32: {},
  bf16: { dtype: "BF16", tied: false, sharded: true, seed: 2 },
};

const [folder] = Deno.args;
if (folder === undefined) throw new Error("Usage: peft_case.ts FOLDER");

const rows = [...plainRows(12), ...chatRows(12, 8)];
const items = rows.map(itemOf);
const engine = await startEngine({ device: "auto", allowSoftware: true });
for (const [name, options] of Object.entries(CASES)) {
  const directory = join(folder, name);
  await Deno.mkdir(directory, { recursive: true });
  const model = await writeTinyModel(join(directory, "model"), options);
  const trained = {
    adapter: { num_train_epochs: 4, lora: { r: 6, alpha: 9 } },
    full: { max_steps: 4, lora: null, learning_rate: 1e-3, save_dtype: "f16" },
  };
  for (const [form, spec] of Object.entries(trained)) {
    const settings = settingsOf(spec);
    await engine.call("train", {
      id: name,
      model,
      dataset: datasetOf(rows),
      eval_dataset: null,
      init_adapter: null,
      settings,
      directory: join(directory, "job", form),
    });
    await Deno.rename(join(directory, "job", form, "result"), join(directory, form));
    const job = { model: "org/base", dataset: { rows: rows.length }, eval_dataset: null, preset: null };
    await writeModelCard(join(directory, form), { ...job, settings, metrics: null }, form as CardForm);
  }
  await exportMerged(model, join(directory, "adapter"), join(directory, "merged"));
  await exportMerged(model, join(directory, "adapter"), join(directory, "sharded"), { maxShardBytes: 2e4 });

  const tokenizer = await loadTokenizer(model);
  const ids = items.flatMap(({ prompt, candidates: responses }, row) => {
    const { group } = encodeComparison(tokenizer, { row, prompt, responses }, {
      max_length: Infinity,
      max_prompt_length: Infinity,
      truncation_mode: "keep_end",
      prompt_boundary: "trl",
    });
    return group!.responses.map(({ tokens, scored_from }) => ({
      prompt: [...group!.prompt, ...tokens.subarray(0, scored_from)],
      response: [...tokens.subarray(scored_from)],
    }));
  });
  await Deno.writeTextFile(join(directory, "rows.json"), JSON.stringify(ids));
  const scored = {
    adapter: { model, adapter: join(directory, "adapter") },
    merged: { model: join(directory, "merged") },
    full: { model: join(directory, "full") },
  };
  for (const [what, request] of Object.entries(scored)) {
    const answer = await Array.fromAsync(
      stream(engine, "score", {
        adapter: null,
        quantization: null,
        items,
        beta: 2,
        token_logprobs: false,
        ...request,
      }),
    );
    const average_logprobs = answer.flatMap(({ results }) =>
      results.map(({ average_logprob }) => average_logprob)
    );
    await Deno.writeTextFile(join(directory, `${what}.json`), JSON.stringify({ average_logprobs }));
  }
}
await engine.stop();

const gpu = await Gpu.open({ device: "auto" });
for (const [name, { family, ...saved }] of Object.entries(FAMILIES)) {
  for (const kind of ["", "_saved"]) {
    await writeFamilyCase(`${name}${kind}`, family, kind === "" ? {} : saved);
  }
}
gpu.close();

/** An adapter of a family with random numbers, as a job writes it, and the scores of the family's candidates. */
async function writeFamilyCase(name: string, family: Family, saved: object): Promise<void> {
  const directory = join(folder!, name);
  const model = join(directory, "model");
  await Deno.mkdir(join(directory, "adapter"), { recursive: true });
  await Deno.mkdir(model);
  for (const file of ["config.json", "model.safetensors"]) {
    await Deno.copyFile(join(familyFolder(family), file), join(model, file));
  }
  const base = await load(model);
  const { lora } = settingsOf({ lora: { r: 3, alpha: 5, use_rslora: name.length % 2 === 0, ...saved } });
  const options = { model, seed: 3, init: null, resume: null };
  const { decoder, trained, save, free } = await trainableLora(gpu, base.decoder, lora!, options);
  const { normals } = random(5);
  for (const { name, value } of trained.parameters.values()) {
    const start = await gpu.readF32(value);
    const noise = normals(start.length);
    // saved modules stay near the base's, whose numbers matter
    gpu.write(value, start.map((x, i) => (name.includes(".lora_") ? 0.2 : 0.1) * noise[i]! + x));
  }
  await save(join(directory, "adapter"));
  const { prompt, responses } = (await readFamily(family)).candidates;
  const rows = responses.map((response) => ({ prompt, response }));
  await Deno.writeTextFile(join(directory, "rows.json"), JSON.stringify(rows));
  await writeScores(join(directory, "adapter.json"), decoder, prompt, responses);
  free();
  base.free();
  await exportMerged(model, join(directory, "adapter"), join(directory, "merged"));
  const merged = await load(join(directory, "merged"));
  await writeScores(join(directory, "merged.json"), merged.decoder, prompt, responses);
  merged.free();
}

async function load(model: string) {
  using checkpoint = await WeightFiles.open(model);
  return await loadDecoder(gpu, checkpoint, await readModelConfig(model), { trainable: false });
}

async function writeScores(
  path: string,
  decoder: Decoder,
  prompt: readonly number[],
  responses: readonly (readonly number[])[],
): Promise<void> {
  const { averages } = await scoreGroups(gpu, decoder, [encodedGroup(prompt, responses)]);
  await Deno.writeTextFile(path, JSON.stringify({ average_logprobs: [...averages] }));
}
