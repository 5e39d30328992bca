import { InputError, within } from "../errors.ts";
import { largestRank } from "../model/adapter_modules.ts";
import { mostTokens } from "../model/pass_buffers.ts";
import { alignSharing } from "../model/rope.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { EncodePool } from "../preference/encode_pool.ts";
import { groupTokens } from "../preference/pack.ts";
import { pause, type TrainContext } from "./context.ts";
import { type Examples, readExamples } from "./examples.ts";
import type { Dataset, TrainRequest } from "./request.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { adapterConfig, checkRank } from "./trainable.ts";

/** The rows of a run, as tokens. */
export interface Data {
  readonly train: readonly EncodedGroup[];
  readonly eval: readonly EncodedGroup[];
  /** Tokens of the largest row. */
  readonly largest: number;
}

/**
 * Reads and tokenises both data sets, and says what was left out or cut.
 *
 * @param onLarge called where that turns out to take a while
 * @throws {InputError} where a data set has no usable row, or a row is too large for the device
 * @throws {Interrupted} where the run is to end
 */
export async function readData(
  context: TrainContext,
  request: TrainRequest,
  settings: TrainingSettings,
  onLarge: () => void,
): Promise<Data> {
  const { config, emit } = context;
  const tokenizer = context.tokenizer.withChatTemplate(settings.chat_template);
  const kind = settings.method.type === "sft" ? "sft" : "preference";
  const vocabulary = config.vocab_size;
  const chat_template = settings.chat_template ?? null;
  const job = { model: request.model, chat_template, settings, vocabulary };
  using pool = new EncodePool(job, { onStart: onLarge });
  const read = async (split: "train" | "eval", dataset: Dataset): Promise<readonly EncodedGroup[]> => {
    const examples = await readExamples(
      dataset,
      kind,
      tokenizer,
      settings,
      vocabulary,
      () => pause(context),
      pool,
    );
    report(examples, split, settings, emit);
    const groups = examples.groups.map((group) => alignSharing(config.traits.ropes, group));
    if (groups.length > 0) return groups;
    throw new InputError(
      (field) => `${field} has no usable row: ${examples.left_out.length} were left out.`,
      {
        path: [],
        accepted: "rows of which every response has a token",
      },
    );
  };
  const { dataset, eval_dataset } = request;
  const train = await within(["dataset"], () => read("train", dataset));
  const evaluation = eval_dataset ? await within(["eval_dataset"], () => read("eval", eval_dataset)) : [];
  const largest = [...train, ...evaluation].reduce((most, group) => Math.max(most, groupTokens(group)), 0);
  checkLargest(context, settings, largest);
  return { train, eval: evaluation, largest };
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

function report(
  { left_out, prompts_cut, responses_cut }: Examples,
  split: "train" | "eval",
  settings: TrainingSettings,
  emit: TrainContext["emit"],
): void {
  if (left_out.length > 0) emit({ type: "left_out", split, rows: left_out });
  if (prompts_cut + responses_cut === 0) return;
  const { max_length, max_prompt_length } = settings;
  const message =
    `${split}: ${prompts_cut} prompts and the responses of ${responses_cut} rows were cut to fit ` +
    `max_length ${max_length} (max_prompt_length ${max_prompt_length}).`;
  emit({ type: "warning", message });
}
