/**
 * `deno task example`: makes everything under examples/ from one seed. Writes the text, the tokenizer and a randomly
 * initialised model, pre-trains it with this worker's own likelihood objective, and keeps the weights as bf16.
 *
 * The corpus and the checkpoints lie under state/example/; a run that was interrupted goes on from its last checkpoint.
 */
import { copyFile, mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readConfig } from "../src/config.ts";
import { startEngine } from "../src/engine/client.ts";
import { parseJobSpec } from "../src/jobs/spec.ts";
import { fromF32 } from "../src/model/dtype.ts";
import { Checkpoint, writeSafetensors } from "../src/model/safetensors.ts";
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
  batch_size: 64,
  micro_batch_tokens: 2560,
  adam_beta2: 0.98,
  max_length: 128,
  seed: SEED,
  save_steps: 200,
  logging_steps: 20,
} as const;
const CORPUS_ROWS = 72_000;

async function writeRows(path: string, rows: Iterable<unknown>): Promise<void> {
  await Deno.writeTextFile(path, [...rows].map((row) => `${JSON.stringify(row)}\n`).join(""));
}

/** Files of examples/ and of the work folder that need no GPU. */
async function writeText(): Promise<void> {
  const initial = join(WORK, "initial");
  await mkdir(MODEL, { recursive: true });
  await mkdir(initial, { recursive: true });
  for (const [name, content] of Object.entries(MODEL_FILES)) {
    await Deno.writeTextFile(join(MODEL, name), `${JSON.stringify(content, null, 2)}\n`);
  }
  await Deno.writeTextFile(join(MODEL, "tokenizer.json"), `${JSON.stringify(makeTokenizer(SEED))}\n`);
  await writeRows(join(EXAMPLES, "preferences.train.jsonl"), preferenceRows(SEED, "train", 1024));
  await writeRows(join(EXAMPLES, "preferences.eval.jsonl"), preferenceRows(SEED, "eval", 256));
  await writeRows(join(EXAMPLES, "candidates.jsonl"), candidatesRows(SEED, 6));
  await writeRows(join(WORK, "corpus.jsonl"), corpusRows(SEED, CORPUS_ROWS));
  for (const name of [...Object.keys(MODEL_FILES), "tokenizer.json"]) {
    await copyFile(join(MODEL, name), join(initial, name));
  }
  await writeSafetensors(join(initial, "model.safetensors"), initialTensors(MODEL_CONFIG, SEED));
}

/** Trains the model in the work folder. @returns the folder of the trained weights */
async function pretrain(): Promise<string> {
  const { settings } = parseJobSpec(PRETRAINING);
  const directory = join(WORK, "pretraining");
  const engine = await startEngine({ device: readConfig().device });
  try {
    const { outcome } = await engine.train(
      {
        id: "example",
        model: join(ROOT, PRETRAINING.model),
        dataset: { path: join(ROOT, PRETRAINING.dataset.path) },
        eval_dataset: null,
        settings,
        directory,
      },
      (event) => {
        if (event.type === "metrics") {
          console.error(`step ${event.step}: loss ${event.metrics.loss?.toFixed(4)}`);
        } else if (event.type === "warning") {
          console.error(event.message);
        } else if (event.type === "left_out") {
          throw new Error(`${event.rows.length} rows of the corpus were left out: ${event.rows[0]?.reason}`);
        }
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
  using weights = await Checkpoint.open(result);
  const tensors = await Promise.all(weights.names().map(async (name) => ({
    name,
    dtype: "BF16" as const,
    shape: weights.info(name).shape,
    data: fromF32(await weights.readF32(name), "BF16"),
  })));
  await writeSafetensors(join(MODEL, "model.safetensors"), tensors);
}

if (import.meta.main) {
  if (Deno.args.includes("--fresh")) await rm(WORK, { recursive: true, force: true });
  await writeText();
  if (!Deno.args.includes("--text-only")) await exportModel(await pretrain());
}
