import { InputError, within } from "../errors.ts";
import { largestRank } from "../model/adapter_modules.ts";
import { mostTokens } from "../model/pass_buffers.ts";
import { alignSharing } from "../model/rope.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { EncodePool } from "../preference/encode_pool.ts";
import { pause, type TrainContext } from "./context.ts";
import { type Examples, readExamples, type ReadOptions } from "./examples.ts";
import type { Dataset, RowSource, TrainRequest } from "./request.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { chooseRows, type Fingerprint, fingerprint, type Source } from "./mixture.ts";
import { reportOf } from "./split_report.ts";
import { type Groups, TokenFile, TokenWriter } from "./token_file.ts";
import { tokenFolder } from "./token_files.ts";
import { adapterConfig, checkRank } from "./trainable.ts";

/** The rows of a run, as tokens on disk. */
export interface Data extends Disposable {
  readonly train: Groups;
  readonly eval: Groups;
  /** Tokens of the largest row. */
  readonly largest: number;
  /** CRC-32 of all tokens. */
  readonly checksum: string;
}

/**
 * Tokenises both data sets into the job's folder, and says what they were read as, what was left out and what was cut. Where
 * an earlier life of the job has done it, the rows are not read again.
 *
 * @param onLarge called where that turns out to take a while
 * @throws {InputError} where a data set has no usable row or too many others, or a row is too large for the device
 * @throws {Interrupted} where the run is to end
 */
export async function readData(
  context: TrainContext,
  request: TrainRequest,
  settings: TrainingSettings,
  onLarge: () => void,
): Promise<Data> {
  const folder = tokenFolder(request.directory);
  const key = keyOf(context, settings);
  if (!TokenFile.isWhole(folder, key)) await writeTokens(context, request, settings, onLarge, folder, key);
  const file = TokenFile.open(folder);
  checkLargest(context, settings, file.largest);
  return file;
}

/** What the tokens of a job depend on beside its rows. */
function keyOf({ config }: TrainContext, settings: TrainingSettings): string {
  const { max_length, max_prompt_length, truncation_mode, prompt_boundary, method } = settings;
  const { chat_template, chat_template_kwargs, split_special_tokens } = settings;
  return JSON.stringify([
    config.vocab_size,
    max_length,
    max_prompt_length,
    truncation_mode,
    prompt_boundary,
    chat_template,
    chat_template_kwargs,
    split_special_tokens,
    method.type,
  ]);
}

async function writeTokens(
  context: TrainContext,
  request: TrainRequest,
  settings: TrainingSettings,
  onLarge: () => void,
  folder: string,
  key: string,
): Promise<void> {
  const { config } = context;
  const { max_left_out: maxLeftOut } = settings;
  const tokenizer = context.tokenizer.withChatTemplate(settings.chat_template);
  const chat_template = settings.chat_template ?? null;
  const job = { model: request.model, chat_template, settings, vocabulary: config.vocab_size };
  using pool = new EncodePool(job, { onStart: onLarge });
  using writer = new TokenWriter(folder);
  const options: ReadOptions = {
    kind: settings.method.type === "sft" ? "sft" : "preference",
    tokenizer,
    settings,
    vocabulary: config.vocab_size,
    maxLeftOut,
    pause: () => pause(context),
    pool,
  };
  const prints: Fingerprint[] = [];
  const take = (group: EncodedGroup) => {
    prints.push(fingerprint(group));
    writer.add(alignSharing(config.traits.ropes, group));
  };
  const readSplit = async (split: "train" | "eval", dataset: Dataset): Promise<Source[]> => {
    const sources: Source[] = [];
    const examples: Examples[] = [];
    const readSource = async (source: RowSource) => {
      const first = writer.length;
      examples.push(await readExamples(source, options, take));
      sources.push({ first, end: writer.length, weight: source.weight ?? 1 });
    };
    if (!isList(dataset)) await readSource(dataset);
    else for (const [i, source] of dataset.entries()) await within([i], () => readSource(source));
    const report = reportOf(examples, { config, tokenizer, settings });
    const { rows, shapes, left_out } = report;
    context.emit({ type: "rows", split, rows, shapes });
    if (left_out.count > 0) context.emit({ type: "left_out", split, ...left_out });
    for (const message of report.warnings) context.emit({ type: "warning", message: `${split}: ${message}` });
    return sources;
  };

  const { dataset, eval_dataset } = request;
  const read = await within(["dataset"], () => readSplit("train", dataset));
  const evaluated = eval_dataset ? await within(["eval_dataset"], () => readSplit("eval", eval_dataset)) : [];
  const { train, evaluation, warnings } = chooseRows(prints, read, evaluated, settings);
  for (const message of warnings) context.emit({ type: "warning", message });
  writer.finish(key, train, evaluation);
}

function isList(dataset: Dataset): dataset is readonly RowSource[] {
  return Array.isArray(dataset);
}

/**
 * Says where micro_batch_tokens cannot be what the settings ask for.
 *
 * @throws {InputError} where the device can bind no micro-batch of the largest row, or no factor of the rank
 */
function checkLargest(
  { gpu, config, emit }: TrainContext,
  { micro_batch_tokens: wanted, max_length, lora }: TrainingSettings,
  largest: number,
): void {
  if (lora) checkRank(gpu, config, adapterConfig(lora, config, null));
  const most = mostTokens(gpu, config, largestRank(lora));
  if (largest > most) {
    throw new InputError(
      `The largest row takes ${largest} tokens, more than a batch of this model may have here.`,
      {
        path: ["max_length"],
        value: max_length,
        accepted: `rows of at most ${most} tokens, prompt and responses together, on this device`,
      },
    );
  }
  if (wanted === null) return;
  const warn = (change: string) =>
    emit({ type: "warning", message: `micro_batch_tokens ${wanted} is ${change}.` });
  if (largest > wanted) warn(`raised to ${largest}, the size of the largest row`);
  if (wanted > most) warn(`lowered to ${most}, the most that this device can bind of this model`);
}
