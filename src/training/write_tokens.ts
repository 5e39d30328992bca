/** A job's rows to tokens in its folder. */
import type { TrainingSettings } from "../api/settings.ts";
import { InputError, within } from "../errors.ts";
import { isGone } from "./changes.ts";
import type { ModelConfig } from "../model/config.ts";
import { alignSharing } from "../model/rope.ts";
import { objectiveOf } from "../objective/mod.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { EncodePool } from "../preference/encode_pool.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import { type Examples, readExamples, type ReadOptions } from "./examples.ts";
import { chooseRows, type Fingerprint, fingerprint, type Source } from "./mixture.ts";
import type { Dataset, RowSource, TrainEvent, TrainRequest } from "./request.ts";
import { reportOf } from "./split_report.ts";
import { TokenFile } from "./token_file.ts";
import { TokenWriter } from "./token_writer.ts";
import { tokenFolder } from "./token_files.ts";

/** What the tokens of a job depend on beside its rows. */
function keyOf(config: ModelConfig, settings: TrainingSettings): string {
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

/** What a job's rows are read by. */
export interface RowReading {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly emit: (event: TrainEvent) => void;
  /** Awaited every few rows. @throws to end the work */
  readonly pause: () => Promise<void>;
  /** Called with the number of each row before it is tokenised on this thread. */
  readonly onRow?: ((row: number) => void) | undefined;
  /** Called as the files' rows are read, those too that are passed over. */
  readonly onRead?: (() => void) | undefined;
}

/** The rows of a job, and where their tokens go. */
export type RowRequest = Pick<TrainRequest, "model" | "dataset" | "eval_dataset" | "directory">;

/**
 * Tokenises both data sets into the job's folder, and says what they were read as, what was left out and what was cut. Where
 * an earlier life of the job has done it, the rows are not read again.
 *
 * @param settings whose lengths fit the model's context
 * @param onLarge called where it turns out to take a while
 * @throws {InputError} where a data set has no usable row or too many others
 * @throws what `pause` throws
 */
export async function writeTokens(
  { config, tokenizer: plain, emit, pause, onRow, onRead }: RowReading,
  request: RowRequest,
  settings: TrainingSettings,
  onLarge: () => void = () => {},
): Promise<void> {
  const folder = tokenFolder(request.directory);
  const key = keyOf(config, settings);
  if (TokenFile.isWhole(folder, key)) return;
  for (const field of ["dataset", "eval_dataset"] as const) {
    if (!request[field] || !isGone(request[field])) continue;
    throw new InputError(
      (place) => `The job's rows as tokens are damaged, and the files of ${place} have gone.`,
      {
        path: [field],
        accepted: "the data set's files as they were, of which the tokens are made anew",
      },
    );
  }
  const { max_left_out: maxLeftOut } = settings;
  const tokenizer = plain.withChatTemplate(settings.chat_template);
  const chat_template = settings.chat_template ?? null;
  const job = { model: request.model, chat_template, settings, vocabulary: config.vocab_size };
  using pool = new EncodePool(job, { onStart: onLarge });
  using writer = new TokenWriter(folder);
  const options: ReadOptions = {
    kind: objectiveOf(settings.method).rows,
    tokenizer,
    settings,
    vocabulary: config.vocab_size,
    maxLeftOut,
    pause,
    onRow,
    onRead,
    pool,
  };
  const prints: Fingerprint[] = [];
  const take = (group: EncodedGroup) => {
    prints.push(fingerprint(group));
    writer.add(alignSharing(config.plan.ropes, group));
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
    emit({ type: "rows", split, rows, shapes });
    if (left_out.count > 0) emit({ type: "left_out", split, ...left_out });
    for (const message of report.warnings) emit({ type: "warning", message: `${split}: ${message}` });
    return sources;
  };

  const { dataset, eval_dataset } = request;
  const read = await within(["dataset"], () => readSplit("train", dataset));
  const evaluated = eval_dataset ? await within(["eval_dataset"], () => readSplit("eval", eval_dataset)) : [];
  const { train, evaluation, warnings } = chooseRows(prints, read, evaluated, settings);
  for (const message of warnings) emit({ type: "warning", message });
  writer.finish(key, train, evaluation);
}

function isList(dataset: Dataset): dataset is readonly RowSource[] {
  return Array.isArray(dataset);
}
