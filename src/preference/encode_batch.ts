/** Rows to tokens some dozens at a time: enough to be worth a message to another thread, few enough to wait for. */
import { within } from "../errors.ts";
import { checkTokenIds, encodeComparison, type EncodedGroup, type EncodeSettings } from "./encode.ts";
import type { Comparison } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** Rows as tokens, and those that have none to learn from. */
export interface EncodedBatch {
  readonly groups: readonly EncodedGroup[];
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
 * @throws {InputError} naming the first row that cannot be templated or has a token id that the model does not have
 */
export function encodeBatch(
  tokenizer: Tokenizer,
  batch: readonly Comparison[],
  settings: EncodeSettings,
  vocabulary: number,
): EncodedBatch {
  const groups: EncodedGroup[] = [];
  const left_out: { row: number; reason: string }[] = [];
  for (const comparison of batch) {
    const { row } = comparison;
    within([{ row }], () => {
      const { group, left_out: why } = encodeComparison(tokenizer, comparison, settings);
      if (!group) return left_out.push({ row, reason: why.reason });
      for (const { tokens } of [{ tokens: group.prompt }, ...group.responses]) {
        checkTokenIds(tokens, vocabulary);
      }
      groups.push(group);
    });
  }
  return { groups, left_out };
}
