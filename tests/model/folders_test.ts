import assert from "node:assert/strict";
import { join } from "node:path";
import { Gpu } from "../../src/gpu/mod.ts";
import type { LoraSettings } from "../../src/api/settings.ts";
import { targetedModules } from "../../src/model/adapter_modules.ts";
import { savedModules } from "../../src/model/saved_modules.ts";
import { adapterConfig } from "../../src/training/lora_adapter.ts";
import { trainableLora } from "../../src/training/trainable_lora.ts";
import { settingsOf } from "../helpers/settings.ts";
import { readModelConfig } from "../../src/model/config.ts";
import { exportMerged } from "../../src/model/export.ts";
import type { Decoder } from "../../src/model/decoder.ts";
import { loadAdapter, loadDecoder, type LoadedDecoder } from "../../src/model/loading.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { assertClose } from "../helpers/assert_close.ts";
import { encodedGroup, scoreGroups } from "../helpers/decoder_step.ts";
import { inFolder } from "../helpers/folder.ts";
import type { FamilyValues } from "../reference/families.ts";
import {
  FOLDER_ADAPTERS,
  FOLDERS,
  type ModelFolder,
  modelFolder,
  readFolderAdapter,
  readFolderValues,
} from "../reference/folders.ts";

const LORA: LoraSettings = settingsOf({ lora: {} }).lora!;

/** What a folder's warnings say. */
const WARNINGS: Readonly<Record<ModelFolder, readonly RegExp[]>> = {
  gemma3: [/not used here: multi_modal_projector\.\S+ and 1 more of its kind; vision_tower\./],
  mistral3: [
    /language_model\.lm_head\.weight that is not the embedding/,
    /not used here: multi_modal_projector/,
  ],
  own_head: [/tie_word_embeddings is true, but the weights hold a lm_head\.weight that is not the embedding/],
};

const gpu = await Gpu.open({ device: "auto" });

Deno.test.afterAll(() => gpu.close());

async function load(folder: string): Promise<LoadedDecoder> {
  using checkpoint = await WeightFiles.open(folder);
  return await loadDecoder(gpu, checkpoint, await readModelConfig(folder), { trainable: false });
}

/** The candidates' log-probs by a decoder against transformers'. */
async function checkCandidates(
  decoder: Decoder,
  { candidates: { prompt, responses, token_logprobs } }: Pick<FamilyValues, "candidates">,
  name: string,
): Promise<void> {
  const { logprobs } = await scoreGroups(gpu, decoder, [encodedGroup(prompt, responses)]);
  assertClose(logprobs, token_logprobs.flat(), { rtol: 0, atol: 1e-4, name });
}

/** Scores the reference's candidates with the weights in `folder`. @returns what was warned of */
async function checkScoring(name: ModelFolder, folder = modelFolder(name)): Promise<readonly string[]> {
  const { decoder, free } = await load(folder);
  await checkCandidates(decoder, await readFolderValues(name), name);
  free();
  return decoder.config.warnings;
}

for (const name of FOLDERS) {
  Deno.test(`readModelConfig() and loadDecoder() read the folder ${name} as transformers does`, async () => {
    const warnings = await checkScoring(name);
    assert.equal(warnings.length, WARNINGS[name].length, warnings.join("\n"));
    for (const [i, expected] of WARNINGS[name].entries()) assert.match(warnings[i]!, expected);
  });
}

/** Writes a folder's model anew. @param change its tensors, and its configuration in place */
export async function rewrite(
  from: string,
  to: string,
  change: (tensors: TensorSource[], config: Record<string, unknown>) => TensorSource[],
): Promise<void> {
  using checkpoint = await WeightFiles.open(from);
  const tensors = await Promise.all(
    checkpoint.names().map(async (name): Promise<TensorSource> => {
      const { dtype, shape } = checkpoint.info(name);
      return { name, dtype, shape, data: await checkpoint.read(name) };
    }),
  );
  const config = JSON.parse(await Deno.readTextFile(join(from, "config.json")));
  const changed = change(tensors, config);
  await writeSafetensors(join(to, "model.safetensors"), changed);
  await Deno.writeTextFile(join(to, "config.json"), JSON.stringify(config));
}

for (const name of ["gemma3", "mistral3"] as const) {
  Deno.test(`loadDecoder() reads ${name} under the names of transformers 5's classes too`, () =>
    inFolder(async (folder) => {
      await rewrite(modelFolder(name), folder, (tensors) =>
        tensors.map((tensor) => ({
          ...tensor,
          name: tensor.name.replace("language_model.lm_head", "lm_head")
            .replace(/^(language_model)\.model|^(vision_tower|multi_modal_projector)/, "model.$1$2"),
        })));
      await checkScoring(name, folder);
    }));
}

for (const name of FOLDER_ADAPTERS) {
  Deno.test(`loadAdapter() scores with PEFT's adapter ${name} as PEFT does`, async () => {
    const values = await readFolderAdapter(name);
    const base = await load(values.base);
    const { decoder, warnings, free } = await loadAdapter(gpu, base.decoder, values.folder);
    await checkCandidates(decoder, values, name);
    free();
    base.free();
    const resized = name.startsWith("resized");
    assert.equal(decoder.config.vocab_size, base.decoder.config.vocab_size + (resized ? 4 : 0));
    if (name !== "wrapped") return assert.deepEqual(warnings, []);
    assert.match(
      warnings[0]!,
      /^The adapter holds 2 tensors that are not used here, \S+vision_tower\.\S+ the first: they are neither /,
    );
  });
}

Deno.test("adapterConfig() leaves a wrapped model's vision tower out, whose layers have the same names", async () => {
  const model = await readModelConfig(modelFolder("gemma3"));
  const lora = {
    ...LORA,
    target_modules: ["q_proj", "mlp.down_proj"],
    modules_to_save: ["norm", "embed_tokens"],
  };
  const config = adapterConfig(lora, model, null);
  const targets = config.target_modules as { readonly pattern: string };
  const matches = (path: string) => new RegExp(`^(?:${targets.pattern})$`).test(path);
  assert.ok(matches("model.language_model.layers.0.self_attn.q_proj"));
  assert.ok(matches("model.language_model.layers.5.mlp.down_proj"));
  assert.ok(!matches("model.vision_tower.encoder.layers.0.self_attn.q_proj"));
  assert.equal(targetedModules(model, targets).length, 12);
  assert.ok(config.modules_to_save.every((path) => path.startsWith("model.language_model.")));
  // the two of each block's queries and keys, its four others, the last one, and the table
  assert.equal(config.modules_to_save.length, 6 * 6 + 1 + 1);
  assert.deepEqual(savedModules(model, config), savedModules(model, lora));
});

Deno.test("trainableLora() refuses to go on from an adapter that has resized the vocabulary", async () => {
  const { base, folder } = await readFolderAdapter("resized_saved");
  const loaded = await load(base);
  const lora = {
    ...LORA,
    r: 4,
    alpha: 5,
    target_modules: ["v_proj"],
    modules_to_save: ["embed_tokens", "lm_head"],
  };
  await assert.rejects(
    trainableLora(gpu, loaded.decoder, lora, { model: base, seed: 1, init: folder, resume: null }),
    {
      message: /^lora\.init_adapter has resized the vocabulary to 65 rows: training cannot go on from it\.$/,
    },
  );
  loaded.free();
});

Deno.test("trainableLora() goes on from an adapter of a wrapped model, and says what it leaves out", async () => {
  const { base, folder, candidates } = await readFolderAdapter("wrapped");
  const loaded = await load(base);
  const lora = { ...LORA, r: 4, alpha: 5, target_modules: ["q_proj", "down_proj"], init_adapter: folder };
  const options = { model: base, seed: 1, init: folder, resume: null };
  const { decoder, warnings, free } = await trainableLora(gpu, loaded.decoder, lora, options);
  await checkCandidates(decoder, { candidates }, "wrapped");
  assert.match(warnings![0]!, /^The adapter holds 2 tensors that are not used here/);
  free();
  loaded.free();
});

for (const name of ["resized", "resized_tied", "resized_saved"] as const) {
  Deno.test(`exportMerged() merges PEFT's adapter ${name} with its vocabulary and tokenizer`, () =>
    inFolder(async (dir) => {
      const values = await readFolderAdapter(name);
      const adapter = join(dir, "adapter");
      await Deno.mkdir(adapter);
      for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
        await Deno.copyFile(join(values.folder, file), join(adapter, file));
      }
      await Deno.writeTextFile(join(adapter, "tokenizer.json"), "its own");
      const out = join(dir, "out");
      await exportMerged(values.base, adapter, out);
      const loaded = await load(out);
      const base = await readModelConfig(values.base);
      assert.equal(loaded.decoder.config.vocab_size, base.vocab_size + 4);
      await checkCandidates(loaded.decoder, values, name);
      loaded.free();
      assert.equal(await Deno.readTextFile(join(out, "tokenizer.json")), "its own");
    }));
}
