import type { Gpu } from "../src/gpu/mod.ts";
import type { EncodedGroup } from "../src/preference/encode.ts";
import { unsharedGroups } from "../src/preference/pack.ts";
import { contest, submitContender } from "./_contest.ts";
import { type BenchModel, randomGroups, randomModel, SIZES, type Sizes } from "./_model.ts";
import { type Findings, median, reach, type Series, type Settings } from "./_rows.ts";
import { prepareStep, type Step } from "./_step.ts";
import { candidates, LORA, sizesFor } from "./_workloads.ts";

type Points = (readonly [number, number])[];

/** Time and memory as tokens, vocabulary, candidates and the model grow. */
export async function benchGrowth(gpu: Gpu, settings: Settings): Promise<Findings> {
  const tokens = await growingTokens(gpu, settings);
  const perToken = tokens.lines.scoring!.map(([, microseconds]) => microseconds);
  const sizes = tokens.lines.scoring!.map(([count]) => count);
  return {
    rows: [
      reach(
        "growing tokens",
        Math.max(...perToken) / Math.min(...perToken),
        `scoring, a prompt of 32 tokens and two responses of 17 a row, ${sizes[0]} to ${
          sizes.at(-1)
        } tokens; ` +
          `median of ${settings.rounds} alternating rounds`,
      ),
    ],
    series: [
      tokens,
      ...await growingVocabulary(gpu, settings),
      await growingCandidates(gpu, settings),
      ...await growingModel(gpu, settings),
    ],
  };
}

/** 2^from, 2^(from + step), …, 2^to */
function powers(from: number, to: number, step = 1): number[] {
  return Array.from({ length: Math.floor((to - from) / step) + 1 }, (_, i) => 2 ** (from + step * i));
}

async function growingTokens(gpu: Gpu, settings: Settings): Promise<Series> {
  const { extent } = settings;
  const sizes = { ...sizesFor(gpu), ...(extent === "quick" && { num_hidden_layers: 2 }) };
  const counts = extent === "quick" ? powers(8, 12, 2) : powers(8, 14);
  // a response's last token is only a target: 32 + 16 + 16 tokens of the stream
  const rowsOf = (tokens: number) => randomGroups(tokens / 64, 32, [17, 17], sizes.vocab_size);
  const lines: Record<string, Points> = {};
  for (const [name, trained] of [["scoring", "nothing"], ["training", LORA]] as const) {
    // a training step of 16k tokens takes half a minute on the software driver
    if (name === "training" && gpu.software && extent !== "full") continue;
    const model = await randomModel(gpu, sizes, trained);
    const mode = name === "scoring" ? "score" : "train";
    const steps = counts.map((count) => prepareStep(gpu, model, rowsOf(count), { mode }));
    const times = await timesOf(gpu, settings, steps);
    lines[name] = counts.map((count, i) => [count, times[i]! / count * 1000]);
    for (const step of steps) step.free();
    model.free();
  }
  return { name: "tokens", x: "tokens of a batch of short rows", y: "microseconds a token", lines };
}

async function growingVocabulary(gpu: Gpu, settings: Settings): Promise<Series[]> {
  const time: Points = [];
  const bytes: Points = [];
  const vocabularies = settings.extent === "quick" ? powers(10, 14, 2) : powers(10, 17);
  for (const vocab_size of vocabularies) {
    const sizes = { ...SIZES, num_hidden_layers: 2, vocab_size };
    const { ms, step } = await one(gpu, settings, sizes, randomGroups(2, 128, [64, 64], 1000), "train");
    time.push([vocab_size, ms]);
    bytes.push([vocab_size, step.bytes / 2 ** 20]);
  }
  const x = "vocabulary";
  return [
    { name: "vocabulary", x, y: "ms a training step", lines: { "512 tokens, 2 blocks of width 256": time } },
    {
      name: "vocabulary-memory",
      x,
      y: "MiB of buffers",
      lines: { "512 tokens, 2 blocks of width 256": bytes },
    },
  ];
}

async function growingCandidates(gpu: Gpu, settings: Settings): Promise<Series> {
  const counts = settings.extent === "quick" ? powers(0, 4, 2) : powers(0, 6);
  const model = await randomModel(gpu, sizesFor(gpu), "nothing");
  const lines: Record<string, Points> = { "one prompt for all": [], "a prompt each": [] };
  for (const count of counts) {
    const ways: [string, readonly EncodedGroup[]][] = [["one prompt for all", candidates(count)]];
    if (count <= 16) ways.push(["a prompt each", candidates(count).flatMap(unsharedGroups)]);
    for (const [name, groups] of ways) {
      const step = prepareStep(gpu, model, groups, { mode: "score" });
      lines[name]!.push([count, (await timesOf(gpu, settings, [step]))[0]! / count]);
      step.free();
    }
  }
  model.free();
  return {
    name: "candidates",
    x: "candidates of 64 tokens under a 512-token prompt",
    y: "ms a candidate",
    lines,
  };
}

/** Llamas of about 1 to 300 M parameters: [hidden, intermediate, blocks, heads, key/value heads, vocabulary]. */
const MODELS: readonly [number, number, number, number, number, number][] = [
  [128, 352, 3, 4, 2, 4096],
  [256, 704, 6, 8, 4, 4096],
  [512, 1408, 6, 8, 4, 8192],
  [768, 2048, 12, 12, 4, 32_000],
  [1024, 2816, 22, 16, 4, 32_000],
];

async function growingModel(gpu: Gpu, settings: Settings): Promise<Series[]> {
  const most = settings.extent === "full" || !gpu.software ? 5 : settings.extent === "usual" ? 3 : 2;
  const speed: Record<string, Points> = { scoring: [], training: [] };
  const memory: Points = [];
  for (const [hidden_size, intermediate_size, blocks, heads, kv_heads, vocab_size] of MODELS.slice(0, most)) {
    const sizes = {
      hidden_size,
      intermediate_size,
      num_hidden_layers: blocks,
      num_attention_heads: heads,
      num_key_value_heads: kv_heads,
      vocab_size,
    };
    const groups = randomGroups(4, 64, [32, 32], 4096);
    for (const mode of ["score", "train"] as const) {
      const { ms, step, model } = await one(gpu, settings, sizes, groups, mode);
      speed[mode === "score" ? "scoring" : "training"]!.push([model.parameters, step.tokens / ms * 1000]);
      if (mode === "train") memory.push([model.parameters, step.bytes / 2 ** 20]);
    }
  }
  const x = "parameters";
  return [
    { name: "model", x, y: "tokens a second", lines: speed },
    { name: "model-memory", x, y: "MiB of buffers", lines: { "training step of 512 tokens, LoRA": memory } },
  ];
}

/** One step of a model that is let go of again. */
async function one(
  gpu: Gpu,
  settings: Settings,
  sizes: Sizes,
  groups: readonly EncodedGroup[],
  mode: "score" | "train",
): Promise<{ ms: number; step: Step; model: BenchModel }> {
  const model = await randomModel(gpu, sizes, mode === "train" ? LORA : "nothing");
  const step = prepareStep(gpu, model, groups, { mode });
  const [ms] = await timesOf(gpu, settings, [step]);
  step.free();
  model.free();
  return { ms: ms!, step, model };
}

/** Median milliseconds of each step, in alternating rounds. */
async function timesOf(gpu: Gpu, settings: Settings, steps: readonly Step[]): Promise<number[]> {
  const contenders = Object.fromEntries(steps.map((step, i) => [i, submitContender(gpu, step.submit)]));
  const times = await contest(settings, contenders);
  return steps.map((_, i) => median(times[i]!));
}
