/** What int8 costs: log-probs and a SimPO run beside the same weights in bf16, and the speed of products and loading. */
import { join } from "node:path";
import { startEngine } from "../src/engine/client.ts";
import { type Gpu, Program } from "../src/gpu/mod.ts";
import { parseJobSpec } from "../src/jobs/spec.ts";
import type { BatchLive } from "../src/model/batch.ts";
import { type ModelConfig, readModelConfig } from "../src/model/config.ts";
import type { Decoder } from "../src/model/decoder.ts";
import { loadDecoder } from "../src/model/loading.ts";
import { fromF32 } from "../src/model/dtype.ts";
import { quantizeInt8 } from "../src/model/int8.ts";
import { weightSpecs } from "../src/model/modules.ts";
import { DecoderPass } from "../src/model/pass.ts";
import type { Quantization } from "../src/model/quantization.ts";
import { WeightFiles } from "../src/model/safetensors.ts";
import { writeSafetensors } from "../src/model/safetensors_writer.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { packGroups } from "../src/preference/pack.ts";
import { loadTokenizer } from "../src/preference/tokenizer.ts";
import { readExamples } from "../src/training/examples.ts";
import { Random } from "../src/training/random.ts";
import { contest } from "./_contest.ts";
import { configOf, randomGroups } from "./_model.ts";
import { prepareProduct } from "./matmul.ts";
import { type BenchRow, type Findings, median, type Settings } from "./_rows.ts";

const EXAMPLES = decodeURIComponent(new URL("../examples", import.meta.url).pathname);
const TINY = join(EXAMPLES, "tiny-llama");
/** Places where the whole distribution is compared. */
const PLACES = 96;
/** Widths of a model of a billion parameters, in fewer blocks. */
const WIDE = {
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 4,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  vocab_size: 4096,
};

type Metrics = Readonly<Record<string, number>>;

/** Log-probs, KL, SimPO runs, products and the quantising itself, int8 beside bf16. */
export async function benchQuantization(gpu: Gpu, settings: Settings): Promise<Findings> {
  const rows = [
    ...await tinyDrift(gpu),
    ...await wideDrift(gpu),
    ...await products(gpu, settings),
    quantizing(settings),
  ];
  const tables: string[] = [];
  for (const [name, changes] of Object.entries(RUNS)) {
    const run = await trajectory(gpu.software ? "software" : "gpu", changes);
    rows.push(...trajectoryRows(name, run));
    tables.push(`\n${name}; bf16, int8:\n\n${stepTable(run)}`);
  }
  return { rows, text: tables.join("\n") };
}

/** The trained tiny model on its held-out preferences. */
async function tinyDrift(gpu: Gpu): Promise<BenchRow[]> {
  const config = await readModelConfig(TINY);
  const groups = await evaluationGroups();
  // a group whose responses are all the tokens there are gives a whole distribution
  const everything = Array.from({ length: config.vocab_size }, (_, id) => responseOf(Uint32Array.of(id)));
  const places = groups.slice(0, PLACES).map(({ row, prompt, responses: [chosen] }, i): EncodedGroup => {
    const before = chosen!.tokens.subarray(0, i % chosen!.tokens.length);
    return { row, prompt: concatenated(prompt, before), responses: everything, prompt_truncated: 0 };
  });
  const scored = (quantization: Quantization | null) =>
    withDecoder(gpu, TINY, config, quantization, async (decoder) => ({
      pairs: await scores(gpu, decoder, groups),
      next: (await scores(gpu, decoder, places)).flat(),
    }));
  const [bf16, int8] = [await scored(null), await scored("int8")];
  const divergences = places.map((_, place) => {
    const p = bf16.next.slice(place * config.vocab_size, (place + 1) * config.vocab_size);
    return p.reduce((sum, x, id) => sum + Math.exp(x) * (x - int8.next[place * config.vocab_size + id]!), 0);
  });
  const what = "examples/tiny-llama";
  return [
    ...driftRows(what, `${groups.length} held-out pairs`, bf16.pairs, int8.pairs),
    {
      name: `int8, ${what}: KL divergence of the next token from bf16's, mean`,
      value: 1e6 * mean(divergences),
      unit: "1e-6 nats",
      detail: `at ${PLACES} places, most ${(1e6 * Math.max(...divergences)).toFixed(1)}`,
    },
  ];
}

/** Random weights of realistic widths. */
async function wideDrift(gpu: Gpu): Promise<BenchRow[]> {
  const config = configOf(WIDE);
  const groups = randomGroups(4, 24, [24, 24], WIDE.vocab_size);
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  try {
    await writeRandom(folder, config);
    const before = gpu.memory.bytes;
    const scored = (quantization: Quantization | null) =>
      withDecoder(gpu, folder, config, quantization, async (decoder) => ({
        megabytes: (gpu.memory.bytes - before) / 1e6,
        pairs: await scores(gpu, decoder, groups),
      }));
    const [bf16, int8] = [await scored(null), await scored("int8")];
    const what = `random Llama, width ${WIDE.hidden_size}`;
    return [
      ...driftRows(what, `${WIDE.num_hidden_layers} blocks, pairs of random tokens`, bf16.pairs, int8.pairs),
      {
        name: `int8, ${what}: bytes of all weights beside bf16's`,
        value: int8.megabytes / bf16.megabytes,
        unit: "of the bytes",
        detail: `${int8.megabytes.toFixed(0)} and ${
          bf16.megabytes.toFixed(0)
        } MB, the embedding in bf16 in both`,
      },
    ];
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Log-probs of each response's tokens. */
type Scores = (readonly number[])[];

function driftRows(what: string, detail: string, bf16: Scores, int8: Scores): BenchRow[] {
  const difference = (a: readonly number[], b: readonly number[]) => a.map((x, i) => Math.abs(x - b[i]!));
  const tokens = difference(int8.flat(), bf16.flat());
  const responses = difference(int8.map(mean), bf16.map(mean));
  const turned =
    bf16.filter((_, i) =>
      i % 2 === 0 && mean(bf16[i]!) > mean(bf16[i + 1]!) !== mean(int8[i]!) > mean(int8[i + 1]!)
    ).length;
  const row = (name: string, values: readonly number[], detail: string): BenchRow => ({
    name: `int8, ${what}: ${name} beside bf16, mean difference`,
    value: 1000 * mean(values),
    unit: "1e-3 nats",
    detail: `${detail}; most ${(1000 * Math.max(...values)).toFixed(1)}`,
  });
  return [
    row("a response's average log-prob", responses, `${detail}; order turned in ${turned}`),
    row("a token's log-prob", tokens, `${tokens.length} tokens, mean ${mean(bf16.flat()).toFixed(3)}`),
  ];
}

/** Runs by how they differ from the demo's job, which learns as fast as it can: there small differences grow. */
const RUNS = {
  "24 steps of SimPO at a tenth of the demo's rate": {
    learning_rate: 3e-4,
    num_train_epochs: null,
    max_steps: 24,
  },
  "the demo's 64 steps of SimPO": {},
} as const;

/** Metrics by steps, the last with an evaluation. `reordered` is bf16 in smaller micro-batches: sums in another order. */
type Trajectory = Record<"bf16" | "int8" | "reordered", Metrics[]>;

/** Trains the tiny model on its preferences. */
async function trajectory(
  device: "gpu" | "software",
  { num_train_epochs, ...changes }: Readonly<Record<string, unknown>>,
): Promise<Trajectory> {
  const job = JSON.parse(await Deno.readTextFile(join(EXAMPLES, "demo_job.json")));
  if (num_train_epochs === null) delete job.num_train_epochs;
  const engine = await startEngine({ device, allowSoftware: device === "software" });
  const folder = await Deno.makeTempDir({ prefix: "simpo-bench-" });
  const run = async (id: string, own: Readonly<Record<string, unknown>>) => {
    const { settings } = parseJobSpec({ ...job, eval_steps: 0, save_steps: 0, ...changes, ...own });
    const metrics: Metrics[] = [];
    await engine.call("train", {
      id,
      model: TINY,
      dataset: { path: join(EXAMPLES, "preferences.train.jsonl") },
      eval_dataset: { path: join(EXAMPLES, "preferences.eval.jsonl") },
      settings,
      init_adapter: null,
      directory: join(folder, id),
    }, {
      onItem: (event) => {
        if (event.type === "metrics") metrics.push({ step: event.step, ...event.metrics });
      },
    });
    return metrics;
  };
  try {
    return {
      bf16: await run("bf16", {}),
      int8: await run("int8", { quantization: "int8" }),
      reordered: await run("reordered", { micro_batch_tokens: 512 }),
    };
  } finally {
    await engine.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

function trajectoryRows(name: string, { bf16, int8, reordered }: Trajectory): BenchRow[] {
  const heldOut = (metric: string) =>
    [int8, bf16].map((run) => run.at(-1)![`eval_${metric}`]!.toFixed(4)).join(" and ");
  const accuracies = heldOut("rewards/accuracies");
  return ["loss", "rewards/margins", "logps/chosen", "logps/rejected"].map((metric) => {
    const differences = (run: Metrics[]) => run.map((at, i) => Math.abs(at[metric]! - bf16[i]![metric]!));
    const own = differences(int8);
    const noise = differences(reordered);
    return {
      name: `int8, ${name}: ${metric} beside bf16's, median difference`,
      value: 1000 * median(own),
      unit: "1e-3",
      detail: `most ${(1000 * Math.max(...own)).toFixed(1)}; bf16 summed in another order ${
        (1000 * median(noise)).toPrecision(2)
      }, most ${(1000 * Math.max(...noise)).toPrecision(2)}; held out at the end ${
        heldOut(metric)
      }, accuracy ${accuracies}`,
    };
  });
}

/** A linear layer's products, forward and backward, by the type of its weight. */
async function products(gpu: Gpu, settings: Settings): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const layout of ["NT", "NN"] as const) {
    const product = (storage: "f32" | "bf16" | "int8") =>
      prepareProduct(gpu, layout, 512, 1024, 1024, storage);
    const made = { f32: product("f32"), bf16: product("bf16"), int8: product("int8") };
    for (const [storage, times] of Object.entries(await contest(settings, made))) {
      rows.push({
        name: `matmul 512x1024x1024 ${layout}, weight in ${storage}`,
        value: made.f32.flops / median(times) / 1e6,
        unit: "GFLOP/s",
        detail: `${gpu.policy.matmul} design; median of ${settings.rounds} alternating rounds`,
      });
    }
    for (const { free } of Object.values(made)) free();
  }
  return rows;
}

/** What the host does to bf16 while a base is loaded. */
function quantizing({ rounds }: Settings): BenchRow {
  const bytes = fromF32(new Float32Array(2 ** 23).map((_, i) => Math.sin(i)), "BF16");
  const times = Array.from({ length: rounds }, () => {
    const start = performance.now();
    quantizeInt8(bytes, "BF16");
    return performance.now() - start;
  });
  return {
    name: "int8: quantising on the host",
    value: bytes.length / median(times) / 1e6,
    unit: "GB/s",
    detail: `of bf16, on one core, in pieces of 16 MiB; median of ${rounds}`,
  };
}

async function evaluationGroups(): Promise<EncodedGroup[]> {
  const tokenizer = await loadTokenizer(TINY);
  const settings = {
    max_length: 128,
    max_prompt_length: 64,
    truncation_mode: "keep_end",
    prompt_boundary: "trl",
  } as const;
  const groups: EncodedGroup[] = [];
  const source = { path: join(EXAMPLES, "preferences.eval.jsonl") };
  await readExamples(source, {
    kind: "preference",
    tokenizer,
    settings,
    vocabulary: tokenizer.vocabSize,
    maxLeftOut: 0,
    pause: () => Promise.resolve(),
  }, (group) => groups.push(group));
  return groups;
}

async function withDecoder<T>(
  gpu: Gpu,
  folder: string,
  config: ModelConfig,
  quantization: Quantization | null,
  use: (decoder: Decoder) => Promise<T>,
): Promise<T> {
  using checkpoint = await WeightFiles.open(folder);
  const { decoder, free } = await loadDecoder(gpu, checkpoint, config, { trainable: false, quantization });
  const result = await use(decoder);
  free();
  return result;
}

/** A batch a group. */
async function scores(gpu: Gpu, decoder: Decoder, groups: readonly EncodedGroup[]): Promise<Scores> {
  const batches = groups.map((group) => packGroups([group]));
  const most = (key: "tokens" | "rows" | "sequences") => Math.max(...batches.map((batch) => batch[key]));
  const budget = { tokens: most("tokens"), rows: most("rows"), sequences: most("sequences") };
  const pass = new DecoderPass(gpu, decoder, budget, { mode: "score" });
  const program = new Program<BatchLive>(gpu, "scores");
  pass.recordForward(program);
  const all: Scores = [];
  for (const batch of batches) {
    program.run({ ...pass.upload(batch), dropout_seed: 0 });
    const logprobs = await gpu.readF32(pass.logprobs);
    const offsets = batch.sequence_rows;
    for (let i = 0; i < batch.sequences; i++) all.push([...logprobs.subarray(offsets[i], offsets[i + 1])]);
  }
  program.free();
  pass.free();
  return all;
}

/** Normal weights in bf16, as wide as those of trained models are on average; norms of ones. */
async function writeRandom(folder: string, config: ModelConfig): Promise<void> {
  const random = new Random(3);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  const tensors = weightSpecs(config).map(({ name, shape }) => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = shape.length === 1
      ? new Float32Array(count).fill(1)
      : new Float32Array(count).map(() => 0.02 * normal());
    return { name, dtype: "BF16" as const, shape, data: fromF32(values, "BF16") };
  });
  await writeSafetensors(join(folder, "model.safetensors"), tensors);
}

function responseOf(tokens: Uint32Array): EncodedGroup["responses"][0] {
  return { tokens, scored_from: 0, truncated: false };
}

function concatenated(a: Uint32Array, b: Uint32Array): Uint32Array {
  const both = new Uint32Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, x) => sum + x, 0) / values.length;
}

/** The first step and every eighth. */
function stepTable({ bf16, int8 }: Trajectory): string {
  const names = ["loss", "rewards/margins", "logps/chosen", "logps/rejected", "grad_norm"];
  const lines = bf16.flatMap((metrics, i) => {
    const pairs = names.map((name) => `${metrics[name]!.toFixed(4)}, ${int8[i]![name]!.toFixed(4)}`);
    return i === 0 || i % 8 === 7 ? [`| ${i + 1} | ${pairs.join(" | ")} |`] : [];
  });
  return [`| step | ${names.join(" | ")} |`, `| --- |${" --- |".repeat(names.length)}`, ...lines].join("\n");
}
