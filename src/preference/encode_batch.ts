/** Rows to tokens some dozens at a time: enough to be worth a message to another thread, few enough to wait for. */
import { InputError, located, within } from "../errors.ts";
import { isTemplateStopped } from "./chat_template.ts";
import {
  checkTokenIds,
  encodeComparison,
  type Encoded,
  type EncodedGroup,
  type EncodeSettings,
  type Uncut,
} from "./encode.ts";
import type { Comparison } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Rows as tokens, and those that have none to learn from. */
export interface EncodedBatch {
  readonly groups: readonly EncodedGroup[];
  /** How long each group was before anything was cut. */
  readonly uncut: readonly Uncut[];
  readonly left_out: readonly { readonly row: number; readonly reason: string }[];
}

/** Most rows of a batch. */
const ROWS = 64;
/** UTF-16 units that end a batch: some 30,000 tokens, a few hundredths of a second's work. */
const CHARACTERS = 2 ** 17;

/** Puts comparisons together as batches. An error of theirs comes after the batch of what was before it. */
export async function* inBatches(comparisons: AsyncIterable<Comparison>): AsyncGenerator<Comparison[]> {
  let batch: Comparison[] = [];
  let characters = 0;
  try {
    for await (const comparison of comparisons) {
      batch.push(comparison);
      characters += charactersOf(comparison);
      if (batch.length < ROWS && characters < CHARACTERS) continue;
      yield batch;
      batch = [];
      characters = 0;
    }
  } catch (error) {
    if (batch.length > 0) yield batch;
    throw error;
  }
  if (batch.length > 0) yield batch;
}

/** UTF-16 units of all that a comparison says. */
export function charactersOf({ prompt, responses }: Comparison): number {
  let sum = 0;
  for (const text of [prompt, ...responses]) {
    if (typeof text === "string") sum += text.length;
    else for (const { content } of text) sum += content?.length ?? 0;
  }
  return sum;
}

/**
 * Tokenises a batch.
 *
 * @param vocabulary the model's vocabulary size
 * @param onRow called with the number of each row before it is tokenised
 * @throws {InputError} naming the first row with a token id that the model does not have, or that takes the template past
 *   a bound
 */
export function encodeBatch(
  tokenizer: Tokenizer,
  batch: readonly Comparison[],
  settings: EncodeSettings,
  vocabulary: number,
  onRow: (row: number) => void = () => {},
): EncodedBatch {
  const groups: EncodedGroup[] = [];
  const lengths: Uncut[] = [];
  const left_out: { row: number; reason: string }[] = [];
  for (const comparison of batch) {
    const { row } = comparison;
    onRow(row);
    const { group, uncut, left_out: why } = encoded(tokenizer, comparison, settings);
    if (!group) {
      left_out.push({ row, reason: why.reason });
      continue;
    }
    within([{ row }], () => {
      for (const { tokens } of [{ tokens: group.prompt }, ...group.responses]) {
        checkTokenIds(tokens, vocabulary);
      }
    });
    groups.push(group);
    lengths.push(uncut);
  }
  return { groups, uncut: lengths, left_out };
}

/** A row that the template refuses is left out like one without a response. */
function encoded(tokenizer: Tokenizer, comparison: Comparison, settings: EncodeSettings): Encoded {
  try {
    return encodeComparison(tokenizer, comparison, settings);
  } catch (error) {
    if (isTemplateStopped(error)) throw located(error, [{ row: comparison.row }]);
    if (!(error instanceof InputError)) throw error;
    return { left_out: { row: comparison.row, reason: error.message.replace(/^body /, ""), response: 0 } };
  }
}
