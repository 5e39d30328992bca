/**
 * `deno task example`: makes everything under examples/ from one seed. Writes the text, the tokenizer and a randomly
 * initialised model, pre-trains it with this worker's own likelihood objective, and keeps the weights as bf16.
 *
 * The corpus and the checkpoints lie under state/example/; a run that was interrupted goes on from its last checkpoint.
 */
import { mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import { readConfig } from "../src/config.ts";
import { startEngine } from "../src/engine/client.ts";
import { parseJobSpec } from "../src/jobs/spec.ts";
import { fromF32 } from "../src/model/dtype.ts";
import { WeightFiles } from "../src/model/safetensors.ts";
import { writeSafetensors } from "../src/model/safetensors_writer.ts";
import { candidatesRows, corpusRows, makeTokenizer, preferenceRows } from "./example/generate.ts";
import { initialTensors, MODEL_CONFIG, MODEL_FILES } from "./example/model.ts";

const SEED = 42;
const ROOT = fileURLToPath(new URL("..", import.meta.url));
const EXAMPLES = join(ROOT, "examples");
const MODEL = join(EXAMPLES, "tiny-llama");
const WORK = join(ROOT, "state", "example");

/** Pre-training, as `main.ts train` would take it. */
const PRETRAINING = {
  model: "state/example/initial",
  dataset: { path: "state/example/corpus.jsonl" },
  method: { type: "sft" },
  lora: null,
  learning_rate: 2e-3,
  lr_scheduler_type: "cosine",
  warmup_ratio: 0.05,
  batch_size: 32,
  micro_batch_tokens: 1536,
  adam_beta2: 0.98,
  max_length: 128,
  seed: SEED,
  save_steps: 250,
  logging_steps: 25,
} as const;
const CORPUS_ROWS = 48_000;

function jsonLines(rows: Iterable<unknown>): string {
  return Array.from(rows, (row) => `${JSON.stringify(row)}\n`).join("");
}

/** The text files of examples/, by their paths in it. */
export function exampleFiles(): Record<string, string> {
  const files = Object.entries({ ...MODEL_FILES, "tokenizer.json": makeTokenizer(SEED) })
    .map(([name, content]) => [`tiny-llama/${name}`, `${JSON.stringify(content, null, 2)}\n`]);
  return {
    ...Object.fromEntries(files),
    "preferences.train.jsonl": jsonLines(preferenceRows(SEED, "train", 2048)),
    "preferences.eval.jsonl": jsonLines(preferenceRows(SEED, "eval", 256)),
    "candidates.jsonl": jsonLines(candidatesRows(SEED, 6)),
  };
}

/** Writes what needs no training: examples/ without the weights, the corpus, the model to start from. */
async function writeText(): Promise<void> {
  const initial = join(WORK, "initial");
  await mkdir(MODEL, { recursive: true });
  await mkdir(initial, { recursive: true });
  for (const [path, text] of Object.entries(exampleFiles())) {
    await Deno.writeTextFile(join(EXAMPLES, path), text);
    if (path.startsWith("tiny-llama/")) await Deno.writeTextFile(join(initial, basename(path)), text);
  }
  await Deno.writeTextFile(join(WORK, "corpus.jsonl"), jsonLines(corpusRows(SEED, CORPUS_ROWS)));
  await writeSafetensors(join(initial, "model.safetensors"), initialTensors(MODEL_CONFIG, SEED));
}

/** Trains the model in the work folder. @returns the folder of the trained weights */
async function pretrain(): Promise<string> {
  const { settings } = parseJobSpec(PRETRAINING);
  const directory = join(WORK, "pretraining");
  const engine = await startEngine({ device: readConfig().device, allowSoftware: true });
  try {
    const { outcome } = await engine.call(
      "train",
      {
        id: "example",
        model: join(ROOT, PRETRAINING.model),
        dataset: { path: join(ROOT, PRETRAINING.dataset.path) },
        eval_dataset: null,
        init_adapter: null,
        settings,
        directory,
      },
      {
        onItem: (event) => {
          if (event.type === "metrics") {
            console.error(`step ${event.step}: loss ${event.metrics.loss?.toFixed(4)}`);
          } else if (event.type === "warning") {
            console.error(event.message);
          } else if (event.type === "left_out") {
            throw new Error(
              `${event.count} rows of the corpus were left out: ${event.first[0]?.reason}`,
            );
          }
        },
      },
    );
    if (outcome !== "succeeded") throw new Error(`Pre-training ended as ${outcome}.`);
  } finally {
    await engine.stop();
  }
  return join(directory, "result");
}

/** Rounds the trained weights to bf16, half the size of what training keeps. */
async function exportModel(result: string): Promise<void> {
  using weights = await WeightFiles.open(result);
  const tensors = await Promise.all(
    weights.names().map(async (name) => ({
      name,
      dtype: "BF16" as const,
      shape: weights.info(name).shape,
      data: fromF32(await weights.readF32(name), "BF16"),
    })),
  );
  await writeSafetensors(join(MODEL, "model.safetensors"), tensors);
}

if (import.meta.main) {
  if (Deno.args.includes("--fresh")) await rm(WORK, { recursive: true, force: true });
  await writeText();
  if (!Deno.args.includes("--text-only")) await exportModel(await pretrain());
}
