/** The README.md beside a job's weights: what made them and how they are used, with the front matter that the hub reads. */
import { join } from "node:path";
import type { Job } from "../api/job.ts";
import { modelReference } from "../hub/name.ts";
import { writeWhole } from "../model/_files.ts";
import { objectiveOf } from "../objective/mod.ts";
import { VERSION } from "../version.ts";

/** What a folder holds: an adapter, its base with it merged in, or weights that were trained in full. */
export type CardForm = "adapter" | "merged" | "full";

/** What is told of a job. */
type CardJob =
  & Pick<Job, "model" | "dataset" | "eval_dataset" | "preset" | "settings" | "metrics">
  & Partial<Pick<Job, "rows_left_out" | "warnings" | "warning_count">>;

/** Most warnings that are told, and most characters of each. */
const [MOST_WARNINGS, MOST_CHARACTERS] = [10, 300];

/** Writes {@link modelCard} to a folder of weights. */
export async function writeModelCard(folder: string, job: CardJob, form: CardForm): Promise<void> {
  await writeWhole(join(folder, "README.md"), [new TextEncoder().encode(modelCard(job, form))]);
}

/**
 * A model card as PEFT and TRL write one: base model, library and tags as YAML, then how the weights are loaded, the data
 * sets' names, the settings and the newest metrics. The same job gives the same text.
 */
export function modelCard(job: CardJob, form: CardForm): string {
  const { model, dataset, eval_dataset, preset, settings, metrics } = job;
  const { name, revision } = modelReference(model);
  const relation = form === "adapter" ? "adapter" : "finetune";
  const method = settings.method.type;
  const datasets = hubDatasets([dataset, eval_dataset]);
  const { chat_template, ...rest } = settings;
  const told = {
    preset,
    ...rest,
    ...(chat_template === null ? {} : { chat_template: "chat_template.jinja" }),
  };
  return [
    "---",
    `base_model: ${JSON.stringify(name)}`, // a string of JSON is one of YAML
    `base_model_relation: ${relation}`,
    `library_name: ${form === "adapter" ? "peft" : "transformers"}`,
    "pipeline_tag: text-generation",
    `tags:${list([`base_model:${relation}:${name}`, ...(settings.lora ? ["lora"] : []), method])}`,
    ...(datasets.length > 0 ? [`datasets:${list(datasets)}`] : []),
    "---",
    "",
    `# ${TITLES[form]} ${name}`,
    "",
    `Trained from \`${name}\`${revision === null ? "" : ` at revision \`${revision}\``} by ${
      objectiveOf(settings.method).title
    } ` +
    `with simpo-worker ${VERSION}.`,
    "",
    "## How to load it",
    "",
    "```python",
    form === "adapter" ? WITH_PEFT : WITH_TRANSFORMERS,
    "```",
    "",
    "With the worker, where this folder lies under its root, the body of `POST /score`:",
    "",
    "```json",
    scoreBody(form === "adapter" ? { model, adapter: FOLDER } : { model: FOLDER }),
    "```",
    "",
    "## Data",
    "",
    `- training: \`${JSON.stringify(dataset)}\``,
    `- evaluation: ${eval_dataset === null ? "none" : `\`${JSON.stringify(eval_dataset)}\``}`,
    "",
    ...leftOut(job),
    ...warned(job),
    "## Settings",
    "",
    "```json",
    JSON.stringify(told, null, 2),
    "```",
    ...(metrics === null ? [] : [
      "",
      "## Metrics",
      "",
      "The newest of each.",
      "",
      "| metric | value |",
      "| --- | --- |",
      ...Object.entries(metrics).map(([name, value]) => `| ${name} | ${value} |`),
    ]),
    "",
  ].join("\n");
}

const TITLES: Readonly<Record<CardForm, string>> = {
  adapter: "LoRA adapter for",
  merged: "Merged LoRA adapter and",
  full: "Fine-tuned",
};

const FOLDER = "path/of/this/folder";

const WITH_PEFT = `from peft import AutoPeftModelForCausalLM
from transformers import AutoTokenizer

model = AutoPeftModelForCausalLM.from_pretrained("${FOLDER}")
tokenizer = AutoTokenizer.from_pretrained("${FOLDER}")`;

const WITH_TRANSFORMERS = `from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("${FOLDER}")
tokenizer = AutoTokenizer.from_pretrained("${FOLDER}")`;

function scoreBody(weights: Readonly<Record<string, string>>): string {
  const request = { ...weights, prompt: "A prompt", candidates: [" one answer", " another"] };
  return JSON.stringify(request, null, 2);
}

function leftOut({ rows_left_out }: CardJob): string[] {
  if (!rows_left_out?.count) return [];
  const { count, reasons } = rows_left_out;
  const lines = reasons.map(({ split, reason, count }) => `- ${split}: ${count}: ${cut(reason)}`);
  return ["## Rows left out", "", `${count} rows were not used.`, "", ...lines, ""];
}

function warned({ warnings = [], warning_count = warnings.length }: CardJob): string[] {
  if (warnings.length === 0) return [];
  const told = warnings.slice(0, MOST_WARNINGS);
  const more = warning_count - told.length;
  const lines = told.map((warning) => `- ${cut(warning)}`);
  return ["## Warnings", "", ...lines, ...(more > 0 ? [`- and ${more} more`] : []), ""];
}

/** A text as one line of a list. */
function cut(text: string): string {
  const line = text.replace(/\s+/g, " ");
  return line.length <= MOST_CHARACTERS ? line : `${line.slice(0, MOST_CHARACTERS)}…`;
}

/** Repositories of data sets that are named anywhere in a value. */
function hubDatasets(value: unknown): string[] {
  const names = JSON.stringify(value).matchAll(/"hf:\/\/datasets\/([^/@"]+\/[^/@"]+)/g);
  return [...new Set(Array.from(names, ([, name]) => name!))];
}

function list(values: readonly string[]): string {
  return values.map((value) => `\n- ${JSON.stringify(value)}`).join("");
}
