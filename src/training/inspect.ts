/** Looks at what a job's rows become, without training on them. */
import type { Inspection, SplitInspection } from "../api/inspection.ts";
import { boundedText } from "../bounded.ts";
import { within } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { objectiveOf } from "../objective/mod.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import { type Examples, readExamples, type ReadOptions } from "./examples.ts";
import { Lengths } from "./lengths.ts";
import { chooseRows, type Fingerprint, fingerprint, type Source } from "./mixture.ts";
import type { Dataset, RowSource, TrainRequest } from "./request.ts";
import { reportOf } from "./split_report.ts";

/** What is looked at: a job without its folder. */
export type InspectRequest = Pick<TrainRequest, "model" | "dataset" | "eval_dataset" | "settings">;

/** What an inspection finds around it. */
interface Surroundings {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  /** Awaited every few rows. @throws to end the inspection */
  readonly pause: () => Promise<void>;
  /** Called with the number of each row before it is tokenised. */
  readonly onRow?: (row: number) => void;
  /** Called as the files' rows are read, those too that are passed over. */
  readonly onRead?: () => void;
}

/** Rows that are shown. */
const SHOWN = 3;
/** Characters of each of their texts; a cut one ends with its length. */
const MOST_CHARACTERS = 4000;

/**
 * Reads and tokenises both data sets to the end, as training does.
 *
 * @throws {InputError} where training would fail by its rows
 */
export async function inspect(
  { dataset, eval_dataset, settings: given }: InspectRequest,
  { config, tokenizer: plain, pause, onRow, onRead }: Surroundings,
): Promise<Inspection> {
  const settings = { ...given, max_length: Math.min(given.max_length, config.context_length) };
  const tokenizer = plain.withChatTemplate(settings.chat_template);
  const options: ReadOptions = {
    kind: objectiveOf(settings.method).rows,
    tokenizer,
    settings,
    vocabulary: config.vocab_size,
    maxLeftOut: settings.max_left_out,
    pause,
    onRow,
    onRead,
  };
  const prints: Fingerprint[] = [];
  const inspectSplit = async (
    sources: Dataset,
  ): Promise<{ readonly split: SplitInspection; readonly made: readonly Source[] }> => {
    const shown: EncodedGroup[] = [];
    const examples: Examples[] = [];
    const made: Source[] = [];
    const take = (group: EncodedGroup) => {
      prints.push(fingerprint(group));
      if (shown.length < SHOWN) shown.push(group);
    };
    const read = async (source: RowSource) => {
      const first = prints.length;
      examples.push(await readExamples(source, options, take));
      made.push({ first, end: prints.length, weight: source.weight ?? 1 });
    };
    if ("length" in sources) {
      for (const [i, source] of sources.entries()) {
        await within([i], () => read(source));
      }
    } else await read(sources);
    const { rows, shapes, left_out, prompts_cut, responses_cut, warnings } = reportOf(examples, {
      config,
      tokenizer,
      settings,
    });
    const split = {
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
    return { split, made };
  };
  const train = await within(["dataset"], () => inspectSplit(dataset));
  const evaluation = eval_dataset
    ? await within(["eval_dataset"], () => inspectSplit(eval_dataset))
    : { split: null, made: [] };
  const chosen = chooseRows(prints, train.made, evaluation.made, settings);
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
