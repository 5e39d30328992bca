/** Model folders and adapters as they are found, through HTTP; what needs weights on a device goes to a real engine. */
import { configureSync, resetSync } from "@logtape/logtape";
import assert from "node:assert/strict";
import { join } from "node:path";
import { startEngine } from "../../src/engine/client.ts";
import { fromF32 } from "../../src/model/dtype.ts";
import { WeightFiles } from "../../src/model/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../../src/model/safetensors_writer.ts";
import { formatRecord } from "../../src/log.ts";
import type { FakeEngine } from "../helpers/fake_engine.ts";
import { type TestService, testService } from "../helpers/service.ts";
import { TINY_FAMILIES, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";
import { type FOLDER_ADAPTERS, modelFolder, readFolderAdapter } from "../reference/folders.ts";

const pair = { prompt: "the thin", chosen: " hand", rejected: " sand out" };
const job = { dataset: { rows: [pair, pair] }, max_steps: 1, batch_size: 2 };
const item = { prompt: "the thin", candidates: [" hand", " sand out"] };

interface Change {
  readonly config?: Readonly<Record<string, unknown>>;
  /** Replaces all tensors. */
  readonly tensors?: (tensors: TensorSource[]) => TensorSource[];
}

/** A tiny model, changed after it was written. */
async function writeChanged(folder: string, { config = {}, tensors }: Change, options?: TinyModelOptions) {
  await writeTinyModel(folder, options);
  const path = join(folder, "config.json");
  const json = JSON.parse(await Deno.readTextFile(path));
  await Deno.writeTextFile(path, JSON.stringify({ ...json, ...config }));
  if (!tensors) return;
  const all = await tensorsOf(folder);
  await writeSafetensors(join(folder, "model.safetensors"), tensors(all));
}

async function tensorsOf(folder: string): Promise<TensorSource[]> {
  using checkpoint = await WeightFiles.open(folder);
  return await Promise.all(
    checkpoint.names().map(async (name) => {
      const { dtype, shape } = checkpoint.info(name);
      return { name, dtype, shape, data: await checkpoint.read(name) };
    }),
  );
}

const named = (end: string) => ({ name }: TensorSource) => name.endsWith(end);
const head = (tensors: TensorSource[]) => ({
  ...tensors.find(named("embed_tokens.weight"))!,
  name: "lm_head.weight",
});

for (
  const [what, change, options] of [
    ["hidden_act swish", { config: { hidden_act: "swish" } }],
    ["bos_token_id -1", { config: { bos_token_id: -1 } }],
    ["lists of bos and eos, and null", { config: { bos_token_id: null, eos_token_id: [1, -1] } }],
    ["an empty quantization_config", { config: { quantization_config: {} } }],
    ["a stale quantization_config", { config: { quantization_config: { quant_method: "gptq", bits: 4 } } }],
    ["a tied head in the file", { tensors: (all) => [...all, head(all)] }],
    ["the head alone for a tied embedding", {
      tensors: (all) => [head(all), ...all.filter((tensor) => !named("embed_tokens.weight")(tensor))],
    }],
    ["fields of other families at values that change nothing", {
      config: {
        is_causal: true,
        logits_scaling: 1,
        embedding_multiplier: 1.0,
        no_rope_layers: [1, 1],
        use_qk_norm: false,
      },
    }],
    ["GPT-2's heads of an odd size", {}, {
      config: {
        ...TINY_FAMILIES.gpt2,
        n_embd: 15,
        n_head: 3,
        head_dim: undefined,
        num_key_value_heads: undefined,
      },
    }],
  ] as readonly (readonly [string, Change, TinyModelOptions?])[]
) {
  Deno.test(`POST /train takes a model folder with ${what}`, async () => {
    await using service = await testService();
    await writeChanged(join(service.root, "model"), change, options);
    const { status, body } = await service.post("/train", { model: "model", ...job });
    assert.deepEqual([status, body.detail], [202, undefined]);
  });
}

/** A Gemma 3 folder with fields of its text_config and of what is around it. */
async function writeWrapped(folder: string, around: object, text: object) {
  await writeChanged(folder, {
    tensors: (all) => all.map((tensor) => ({ ...tensor, name: tensor.name.replace(/^/, "language_model.") })),
  }, { config: TINY_FAMILIES.gemma3 });
  const { hidden_act: _, tie_word_embeddings: __, ...flat } = JSON.parse(
    await Deno.readTextFile(join(folder, "config.json")),
  );
  const config = {
    model_type: "gemma3",
    architectures: ["Gemma3ForConditionalGeneration"],
    ...around,
    text_config: { ...flat, ...text },
    vision_config: { hidden_size: 8 },
  };
  await Deno.writeTextFile(join(folder, "config.json"), JSON.stringify(config));
}

Deno.test("POST /train heeds the tie_word_embeddings of text_config, not the one around it", async () => {
  await using service = await testService();
  const train = async (outer: boolean, inner: boolean) => {
    const around = { tie_word_embeddings: outer };
    await writeWrapped(join(service.root, "model"), around, { tie_word_embeddings: inner });
    const { status, body } = await service.post("/train", { model: "model", ...job });
    return [status, body.field];
  };
  assert.deepEqual(await train(false, true), [202, undefined]);
  assert.deepEqual(await train(true, false), [422, "config.json: text_config.tie_word_embeddings"]);
});

for (const name of ["gemma3", "mistral3"] as const) {
  Deno.test(`POST /train takes a ${name} folder, its text_config and its weights' prefixes`, async () => {
    await using service = await testService();
    const folder = join(service.root, name);
    await Deno.mkdir(folder);
    for (const file of ["config.json", "model.safetensors"]) {
      await Deno.copyFile(join(modelFolder(name), file), join(folder, file));
    }
    const { status, body } = await service.post("/train", { model: name, ...job });
    assert.deepEqual([status, body.detail], [202, undefined]);
  });
}

for (
  const [config, field] of [
    [{ is_causal: false }],
    [{ no_rope_layers: [1, 0] }],
    [{ logits_scaling: 8 }],
    [{ embedding_multiplier: 12 }],
    [{ residual_multiplier: 0.22 }],
    [{ attention_multiplier: 0.0078125 }],
    [{ rope_scaling: { type: "dynamic", factor: 1, alpha: 1000 } }, "rope_scaling.alpha"],
    [{ use_qk_norm: true }],
    [{ num_experts: 4 }],
    [{ final_logit_softcapping: 30 }],
    [{ model_type: "gemma3", architectures: null }, "text_config"],
    [
      { model_type: "mistral3", architectures: null, text_config: { model_type: "ministral3" } },
      "text_config.model_type",
    ],
    [{ tie_word_embeddings: false }],
  ] as readonly (readonly [Record<string, unknown>, string?])[]
) {
  const name = field ?? Object.keys(config)[0]!;
  Deno.test(`POST /train refuses config.json: ${name} of ${JSON.stringify(Object.values(config)[0])} by its name`, async () => {
    await using service = await testService();
    await writeChanged(join(service.root, "model"), { config });
    const { status, body } = await service.post("/train", { model: "model", ...job });
    assert.deepEqual([status, body.field], [422, `config.json: ${name}`]);
  });
}

Deno.test("POST /train refuses quantised tensors by their names, whatever quantization_config says", async () => {
  await using service = await testService();
  const name = "model.layers.0.self_attn.q_proj.qweight";
  const packed: TensorSource = { name, dtype: "I32", shape: [1], data: new Uint8Array(4) };
  await writeChanged(join(service.root, "model"), {
    tensors: (all) => [packed, ...all.filter((tensor) => !named("0.self_attn.q_proj.weight")(tensor))],
  });
  const { status, body } = await service.post("/train", { model: "model", ...job });
  assert.deepEqual([status, body.field], [422, name]);
  assert.match(body.detail, /quantised: they hold model\.layers\.0\.self_attn\.q_proj\.qweight/);
});

/** Puts one of the adapters that PEFT saved, and its base, under a service's root. */
async function copyAdapter({ root }: TestService, name: typeof FOLDER_ADAPTERS[number]) {
  const { folder, base } = await readFolderAdapter(name);
  await Deno.mkdir(join(root, "base"));
  for (const file of ["config.json", "model.safetensors"]) {
    await Deno.copyFile(join(base, file), join(root, "base", file));
  }
  for (const file of ["adapter_config.json", "adapter_model.safetensors"]) {
    await Deno.copyFile(join(folder, file), join(root, "adapter", file));
  }
}

for (const init_lora_weights of ["gaussian", "orthogonal"]) {
  Deno.test(`POST /train goes on from an adapter whose weights began as init_lora_weights ${init_lora_weights} has them`, async () => {
    await using service = await testService();
    await copyAdapter(service, "orthogonal");
    const path = join(service.root, "adapter", "adapter_config.json");
    const config = JSON.parse(await Deno.readTextFile(path));
    await Deno.writeTextFile(path, JSON.stringify({ ...config, init_lora_weights }));
    const lora = { init_adapter: "adapter" };
    const { status, body } = await service.post("/train", { ...job, model: "base", lora });
    assert.deepEqual([status, body.detail], [202, undefined]);
  });
}

Deno.test("POST /train goes on from an adapter with ranks and alphas of some modules' own", async () => {
  await using service = await testService();
  await copyAdapter(service, "eva");
  const { status, body } = await service.post("/train", {
    ...job,
    model: "base",
    lora: { init_adapter: "adapter" },
  });
  assert.deepEqual([status, body.detail], [202, undefined]);
  assert.deepEqual(body.settings.lora.rank_pattern, {
    "model.layers.0.mlp.down_proj": 3,
    "model.layers.1.self_attn.q_proj": 5,
  });
  assert.deepEqual(Object.values(body.settings.lora.alpha_pattern), [3.75, 6.25]);
  const lora = { rank_pattern: { nothing: 2 } };
  const stray = await service.post("/train", { ...job, model: "model", lora });
  assert.deepEqual([stray.status, stray.body.field], [422, "lora.rank_pattern"]);
});

for (const name of ["resized", "resized_tied", "resized_saved"] as const) {
  Deno.test(`POST /train refuses to go on from an adapter with a resized vocabulary, as PEFT saves it: ${name}`, async () => {
    await using service = await testService();
    await copyAdapter(service, name);
    const { status, body } = await service.post("/train", {
      ...job,
      model: "base",
      lora: { init_adapter: "adapter" },
    });
    assert.deepEqual([status, body.field], [422, "lora.init_adapter"]);
    assert.match(body.detail, /has resized the vocabulary to \d+ rows: training cannot go on from it/);
    assert.match(body.accepted, /merge this one and train on the merged model/);
  });
}

/** A service whose engine has a device. */
async function realService(): Promise<TestService> {
  const engine = await startEngine({ device: "auto", allowSoftware: true });
  const service = await testService({ engine: Promise.resolve(engine as unknown as FakeEngine) });
  return {
    ...service,
    async [Symbol.asyncDispose]() {
      await engine.stop();
      await service[Symbol.asyncDispose]();
    },
  };
}

/** Average log-probs of {@link item}'s candidates. */
async function averages(service: TestService, request: Record<string, unknown>): Promise<number[]> {
  const { status, body } = await service.post("/score", { ...item, ...request });
  assert.equal(status, 200, body.detail);
  return body.results.map(({ average_logprob }: { average_logprob: number }) => average_logprob);
}

Deno.test("POST /score and /train with a device: wrapped models, heads of their own, resized vocabularies, warnings", async (t) => {
  const lines: string[] = [];
  configureSync({
    sinks: { lines: (record) => void lines.push(formatRecord(record)) },
    loggers: [
      { category: ["simpo"], lowestLevel: "warning", sinks: ["lines"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: [] },
    ],
  });
  await using service = await realService();
  const at = (name: string) => join(service.root, name);
  try {
    await t.step("a wrapped Gemma 3 scores as its text model, and says once what is not used", async () => {
      await writeTinyModel(at("flat"), { config: TINY_FAMILIES.gemma3 });
      const seeing = { name: "vision_tower.embeddings.weight", dtype: "F32" as const, shape: [1] };
      await writeWrapped(at("wrapped"), {}, {});
      const tensors = await tensorsOf(at("wrapped"));
      await writeSafetensors(join(at("wrapped"), "model.safetensors"), [
        { ...seeing, data: new Uint8Array(4) },
        ...tensors,
      ]);
      assert.deepEqual(
        await averages(service, { model: "wrapped" }),
        await averages(service, { model: "flat" }),
      );
      await averages(service, { model: "wrapped" });
      const said = lines.filter((line) => line.includes("vision_tower"));
      assert.equal(said.length, 1, lines.join("\n"));
      assert.match(said[0]!, /tensors that are not used here: vision_tower\.embeddings\.weight/);
    });

    await t.step("a head that is not the tied embedding is used, with a warning in the job", async () => {
      const halved = (all: TensorSource[]): TensorSource => {
        const { data, ...tied } = head(all);
        const values = new Float32Array((data as Uint8Array).slice().buffer).map((value) => value / 2);
        return { ...tied, data: fromF32(values, "F32") };
      };
      await writeChanged(at("own_head"), { tensors: (all) => [...all, halved(all)] });
      await writeChanged(at("untied"), {
        config: { tie_word_embeddings: false },
        tensors: (all) => [...all, halved(all)],
      });
      const own = await averages(service, { model: "own_head" });
      assert.deepEqual(own, await averages(service, { model: "untied" }));
      assert.notDeepEqual(own, await averages(service, { model: "model" }));
      const { status, body } = await service.post("/train", { model: "own_head", ...job, lora: { r: 1 } });
      assert.equal(status, 202, body.detail);
      await service.until(body.id, "succeeded", "failed");
      const events = await (await service.app.request(`/train/${body.id}/events`)).text();
      assert.match(
        events,
        /event: warning\n.*tie_word_embeddings is true, but the weights hold a lm_head\.weight/,
      );
    });

    await t.step("an adapter's resized tables stand in place of the base's", async () => {
      const tables = await tensorsOf(at("model"));
      const { shape: [rows, width], data } = tables.find(named("embed_tokens.weight"))! as TensorSource & {
        data: Uint8Array;
      };
      const grown = new Float32Array((rows! + 3) * width!).fill(0.1);
      grown.set(new Float32Array(data.slice().buffer));
      const table = { dtype: "F32" as const, shape: [rows! + 3, width!], data: fromF32(grown, "F32") };
      const config = { vocab_size: rows! + 3 };
      await writeChanged(at("grown"), {
        config,
        tensors: (all) =>
          all.map((tensor) => tensor.name.includes("embed_tokens") ? { ...tensor, ...table } : tensor),
      });
      const path = "base_model.model.model.layers.0.self_attn.q_proj";
      await writeSafetensors(join(at("adapter"), "adapter_model.safetensors"), [
        { ...table, name: "base_model.model.model.embed_tokens.weight" },
        { ...table, name: "base_model.model.lm_head.weight" },
        { name: `${path}.lora_A.weight`, dtype: "F32", shape: [1, 32], data: new Uint8Array(128) },
        { name: `${path}.lora_B.weight`, dtype: "F32", shape: [32, 1], data: new Uint8Array(128) },
      ]);
      const adapter = {
        peft_type: "LORA",
        r: 1,
        lora_alpha: 1,
        target_modules: ["q_proj"],
        layers_to_transform: [0],
      };
      await Deno.writeTextFile(join(at("adapter"), "adapter_config.json"), JSON.stringify(adapter));
      const resized = await averages(service, { model: "model", adapter: "adapter" });
      assert.deepEqual(resized, await averages(service, { model: "grown" }));
      assert.notDeepEqual(resized, await averages(service, { model: "model" }));
    });

    await t.step("a folder with tokenizer.model alone says what writes tokenizer.json", async () => {
      await writeTinyModel(at("old"));
      await Deno.rename(join(at("old"), "tokenizer.json"), join(at("old"), "tokenizer.model"));
      const { status, body } = await service.post("/score", { ...item, model: "old" });
      assert.deepEqual([status, body.field], [422, "tokenizer.json"]);
      assert.match(body.detail, /AutoTokenizer\.from_pretrained\("folder"\)\.save_pretrained\("folder"\)/);
    });
  } finally {
    resetSync();
  }
});
