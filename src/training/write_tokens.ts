/** A job's rows to tokens in its folder. */
import type { TrainingSettings } from "../api/settings.ts";
import { InputError, within } from "../errors.ts";
import { isGone } from "./changes.ts";
import type { ModelConfig } from "../model/config.ts";
import { alignSharing } from "../model/rope.ts";
import { EncodePool } from "../preference/encode_pool.ts";
import { chooseRows, type Fingerprint, type Source } from "./mixture.ts";
import { type Reading, readSplit } from "./read_split.ts";
import type { Dataset, TrainEvent, TrainRequest } from "./request.ts";
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

/** What a job's rows are read by; its `pause` throws to end the work. */
export interface RowReading extends Omit<Reading, "pool"> {
  readonly emit: (event: TrainEvent) => void;
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
  { emit, ...plain }: RowReading,
  request: RowRequest,
  settings: TrainingSettings,
  onLarge: () => void = () => {},
): Promise<void> {
  const { config } = plain;
  const folder = tokenFolder(request.directory);
  const key = keyOf(config, settings);
  if (TokenFile.isWhole(folder, key)) return;
  for (const field of ["dataset", "eval_dataset"] as const) {
    if (!request[field] || !isGone(request[field])) continue;
    throw new InputError(
      (place) => `The job's rows as tokens are damaged, and the files of ${place} have gone.`,
      { path: [field], accepted: "the data set's files as they were, of which the tokens are made anew" },
    );
  }
  const tokenizer = plain.tokenizer.withChatTemplate(settings.chat_template);
  const chat_template = settings.chat_template ?? null;
  const job = { model: request.model, chat_template, settings, vocabulary: config.vocab_size };
  using pool = new EncodePool(job, { onStart: onLarge });
  using writer = new TokenWriter(folder);
  const reading = { ...plain, tokenizer, pool };
  const prints: Fingerprint[] = [];
  const read = async (split: "train" | "eval", dataset: Dataset): Promise<readonly Source[]> => {
    const { sources, report } = await readSplit(dataset, reading, settings, prints, (group) => {
      writer.add(alignSharing(config.plan.ropes, group));
    });
    const { rows, shapes, left_out } = report;
    emit({ type: "rows", split, rows, shapes });
    if (left_out.count > 0) emit({ type: "left_out", split, ...left_out });
    for (const message of report.warnings) emit({ type: "warning", message: `${split}: ${message}` });
    return sources;
  };

  const { dataset, eval_dataset } = request;
  const trained = await within(["dataset"], () => read("train", dataset));
  const evaluated = eval_dataset ? await within(["eval_dataset"], () => read("eval", eval_dataset)) : [];
  const { train, evaluation, warnings } = chooseRows(prints, trained, evaluated, settings);
  for (const message of warnings) emit({ type: "warning", message });
  writer.finish(key, train, evaluation);
}
