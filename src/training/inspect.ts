/** Looks at what a job's rows become, without training on them. */
import type { Inspection, SplitInspection } from "../api/inspection.ts";
import { boundedText } from "../bounded.ts";
import { within } from "../errors.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import { Lengths } from "./lengths.ts";
import { chooseRows, type Fingerprint } from "./mixture.ts";
import { type Reading, readSplit } from "./read_split.ts";
import type { Dataset, TrainRequest } from "./request.ts";

/** What is looked at: a job without its folder. */
export type InspectRequest = Pick<TrainRequest, "model" | "dataset" | "eval_dataset" | "settings">;

/** Rows that are shown. */
const SHOWN = 3;
/** Characters of each of their texts; a cut one ends with its length. */
const MOST_CHARACTERS = 4000;

/**
 * Reads and tokenises both data sets to the end, as training does.
 *
 * @param plain the model, and what is called meanwhile; its `pause` throws to end the inspection
 * @throws {InputError} where training would fail by its rows
 */
export async function inspect(
  { dataset, eval_dataset, settings: given }: InspectRequest,
  plain: Omit<Reading, "pool">,
): Promise<Inspection> {
  const settings = { ...given, max_length: Math.min(given.max_length, plain.config.context_length) };
  const tokenizer = plain.tokenizer.withChatTemplate(settings.chat_template);
  const prints: Fingerprint[] = [];
  const inspectSplit = async (dataset: Dataset) => {
    const shown: EncodedGroup[] = [];
    const reading = { ...plain, tokenizer };
    const { examples, sources, report } = await readSplit(dataset, reading, settings, prints, (group) => {
      if (shown.length < SHOWN) shown.push(group);
    });
    const { rows, shapes, left_out, prompts_cut, responses_cut, warnings } = report;
    const split: SplitInspection = {
      rows,
      shapes: [...shapes],
      examples: examples.reduce((sum, { groups }) => sum + groups, 0),
      left_out: { ...left_out, reasons: [...left_out.reasons], first: [...left_out.first] },
      prompts_cut,
      responses_cut,
      prompt_length: percentiles(examples.map(({ lengths }) => lengths.prompt)),
      whole_length: percentiles(examples.map(({ lengths }) => lengths.whole)),
      warnings: [...warnings],
      first: shown.map((group) => asText(tokenizer, group)),
    };
    return { split, sources };
  };
  const train = await within(["dataset"], () => inspectSplit(dataset));
  const evaluation = eval_dataset
    ? await within(["eval_dataset"], () => inspectSplit(eval_dataset))
    : { split: null, sources: [] };
  const chosen = chooseRows(prints, train.sources, evaluation.sources, settings);
  return {
    max_length: settings.max_length,
    max_prompt_length: settings.max_prompt_length,
    epoch_examples: chosen.train.length,
    eval_examples: chosen.evaluation.length,
    train: train.split,
    eval: evaluation.split,
    warnings: [...chosen.warnings],
  };
}

function percentiles(lengths: readonly Lengths[]): SplitInspection["prompt_length"] {
  const all = new Lengths();
  for (const part of lengths) all.take(part);
  return { p50: all.percentile(0.5), p90: all.percentile(0.9), p99: all.percentile(0.99), max: all.max };
}

function asText(tokenizer: Tokenizer, group: EncodedGroup): SplitInspection["first"][number] {
  return {
    row: group.row,
    prompt: textOf(tokenizer, group.prompt),
    prompt_truncated: group.prompt_truncated,
    responses: group.responses.map(({ tokens, scored_from, truncated }) => ({
      unscored: textOf(tokenizer, tokens.subarray(0, scored_from)),
      scored: textOf(tokenizer, tokens.subarray(scored_from)),
      scored_tokens: tokens.length - scored_from,
      truncated,
    })),
  };
}

/** A part of a text: a decoder may take the first token's space away, which a token in the middle has. */
function textOf(tokenizer: Tokenizer, ids: Uint32Array): string {
  const text = tokenizer.decode(ids);
  const spaced = ids.length > 0 && tokenizer.token(ids[0]!).startsWith(" ");
  return boundedText(spaced && !text.startsWith(" ") ? ` ${text}` : text, MOST_CHARACTERS);
}
