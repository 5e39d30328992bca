/**
 * Groups of a prompt and its responses, laid out as one stream of tokens without padding: prompt, first response,
 * second response, … then the next group. The prompt is computed once for all its responses. A response's last token is
 * only predicted: it is a target, and not in the stream unless what follows it is predicted too.
 *
 * @module
 */
import type { EncodedGroup, EncodedResponse } from "./encode.ts";

/** One response's place in a packed batch. */
export interface PackedSequence {
  /** Index in the groups that were packed. */
  readonly group: number;
  /** Index in the group's responses; null: the prompt, where its tokens are scored. */
  readonly response: number | null;
  /** Its rows: scored tokens, and one where the response predicts what follows it. */
  readonly num_tokens: number;
  /** As the response has them. */
  readonly numbers?: Float32Array | undefined;
}

/**
 * Groups as one flat stream without padding. Every index below is an index into the stream, unless it says rows, or
 * places: those of the keys that the stream's tokens see, where some come from elsewhere.
 */
export interface PackedBatch {
  /** Length of the stream. */
  readonly tokens: number;
  /** Scored tokens of all sequences. */
  readonly rows: number;
  /** Responses of all groups. */
  readonly sequences: number;
  /** [tokens] */
  readonly token_ids: Uint32Array;
  /** [tokens], from 0 in every group; each response goes on from the prompt's end. */
  readonly positions: Uint32Array;
  /**
   * [tokens]: tokens of the sequence that it belongs to, the last included; of a prompt's token, those with the last
   * response.
   */
  readonly lengths: Uint32Array;
  /**
   * [tokens, 4]: prefix_start, prefix_end, segment_start, queries_end. Token i attends to [prefix_start, prefix_end) and
   * [segment_start, i]; only queries in [i, queries_end) can attend to it. All four are places.
   */
  readonly spans: Uint32Array;
  /** [tokens]: the place of each token's own key; its index where no prompt is shortened. */
  readonly places: Uint32Array;
  /** [rows]: the token whose hidden state predicts the row's target. */
  readonly head_tokens: Uint32Array;
  /** [rows]: token id that is predicted. */
  readonly targets: Uint32Array;
  /** [sequences + 1]: offsets into the rows. */
  readonly sequence_rows: Uint32Array;
  /** [tokens + 1]: offsets into `token_row_list`. */
  readonly token_rows: Uint32Array;
  /** [rows]: rows grouped by the token that predicts them, the inverse of `head_tokens`. */
  readonly token_row_list: Uint32Array;
  /** [sequences] */
  readonly sequence_info: readonly PackedSequence[];
}

/**
 * Packs groups in their order.
 *
 * @param known by group: how many tokens of the prompt the stream leaves out, less than all of them, since keys and
 * values of these are known; their places come before those of the rest
 * @param scoresPrompt whether the prompt's tokens but its first are rows too: those of a sequence of its own before the
 * responses'
 * @throws {RangeError} where a response's first token is to be scored though nothing precedes it.
 *
 * @example A prompt of two tokens with two responses
 * ```ts
 * import assert from "node:assert/strict";
 * import { packGroups } from "./pack.ts";
 * const response = (tokens: number[]) => ({ tokens: Uint32Array.from(tokens), scored_from: 0, truncated: false });
 * const batch = packGroups([
 *   { row: 1, prompt: Uint32Array.of(1, 5), responses: [response([7, 2]), response([8, 9, 2])], prompt_truncated: 0 },
 * ]);
 * assert.deepEqual([...batch.token_ids], [1, 5, 7, 8, 9]);
 * assert.deepEqual([...batch.positions], [0, 1, 2, 2, 3]);
 * assert.deepEqual([...batch.head_tokens], [1, 2, 1, 3, 4]);
 * assert.deepEqual([...batch.targets], [7, 2, 8, 9, 2]);
 * ```
 */
export function packGroups(
  groups: readonly EncodedGroup[],
  known: readonly number[] = [],
  scoresPrompt = false,
): PackedBatch {
  const tokens = groups.reduce((sum, group, i) => sum + streamTokens(group) - (known[i] ?? 0), 0);
  const token_ids = new Uint32Array(tokens);
  const positions = new Uint32Array(tokens);
  const lengths = new Uint32Array(tokens);
  const spans = new Uint32Array(tokens * 4);
  const places = new Uint32Array(tokens);
  const head_tokens: number[] = [];
  const targets: number[] = [];
  const sequence_rows = [0];
  const sequence_info: PackedSequence[] = [];
  const endSequence = (sequence: Omit<PackedSequence, "num_tokens">) => {
    sequence_info.push({ ...sequence, num_tokens: head_tokens.length - sequence_rows.at(-1)! });
    sequence_rows.push(head_tokens.length);
  };

  let at = 0;
  let ahead = 0; // how far places are ahead of indices
  for (const [group, { row, prompt, responses }] of groups.entries()) {
    const first = at + ahead;
    const skipped = known[group] ?? 0;
    ahead += skipped;
    const start = at;
    const promptEnd = start + prompt.length - skipped;
    const end = start + streamTokens(groups[group]!) - skipped;
    token_ids.set(prompt.subarray(skipped), start);
    lengths.fill(prompt.length + (responses.at(-1)?.tokens.length ?? 0), start, promptEnd);
    for (; at < promptEnd; at++) {
      positions[at] = skipped + at - start;
      places[at] = at + ahead;
      spans.set([first, first, first, end + ahead], at * 4);
    }
    if (scoresPrompt) {
      for (let index = 1; index < prompt.length; index++) {
        head_tokens.push(start + index - 1);
        targets.push(prompt[index]!);
      }
      endSequence({ group, response: null });
    }
    for (const [response, encoded] of responses.entries()) {
      const { tokens: ids, scored_from, predicts_next } = encoded;
      if (scored_from === 0 && prompt.length === 0 && ids.length > 0) {
        throw new RangeError(`row ${row}, response ${response}: nothing precedes the first scored token`);
      }
      const segment = at;
      const segmentEnd = segment + inStream(encoded);
      token_ids.set(ids.subarray(0, segmentEnd - segment), segment);
      lengths.fill(prompt.length + ids.length, segment, segmentEnd);
      for (; at < segmentEnd; at++) {
        positions[at] = prompt.length + at - segment;
        places[at] = at + ahead;
        spans.set([first, promptEnd + ahead, segment + ahead, segmentEnd + ahead], at * 4);
      }
      for (let index = scored_from; index < ids.length; index++) {
        head_tokens.push(index === 0 ? promptEnd - 1 : segment + index - 1);
        targets.push(ids[index]!);
      }
      if (predicts_next) {
        head_tokens.push(at - 1);
        targets.push(0);
      }
      endSequence({ group, response, ...(encoded.numbers && { numbers: encoded.numbers }) });
    }
  }

  return {
    tokens,
    rows: head_tokens.length,
    sequences: sequence_info.length,
    token_ids,
    positions,
    lengths,
    spans,
    places,
    head_tokens: Uint32Array.from(head_tokens),
    targets: Uint32Array.from(targets),
    sequence_rows: Uint32Array.from(sequence_rows),
    ...rowsByToken(head_tokens, tokens),
    sequence_info,
  };
}

/** Tokens of a group, its prompt once; in a packed batch it takes no more tokens and no more rows. */
export function groupTokens(group: EncodedGroup): number {
  return group.responses.reduce((sum, response) => sum + response.tokens.length, group.prompt.length);
}

/**
 * The same for groups of which only their sizes are known.
 *
 * @param sizes tokens of each, at most `budget`
 * @returns their indices
 *
 * @example Four groups in two batches
 * ```ts
 * import assert from "node:assert/strict";
 * import { fillWithSizes } from "./pack.ts";
 * assert.deepEqual(fillWithSizes([6, 5, 4, 5], 10), [[0, 2], [1, 3]]);
 * ```
 */
export function fillWithSizes(sizes: readonly number[], budget: number): number[][] {
  const largestFirst = [...sizes.keys()].sort((a, b) => sizes[b]! - sizes[a]! || a - b);
  const fitted: number[][] = [];
  /** Batches by the tokens that they have room for. */
  const withRoom: number[][][] = Array.from({ length: budget + 1 }, () => []);
  for (const index of largestFirst) {
    const size = sizes[index]!;
    let room = size;
    while (room <= budget && withRoom[room]!.length === 0) room++;
    let batch = withRoom[room]?.pop();
    if (!batch) {
      fitted.push(batch = []);
      room = budget;
    }
    batch.push(index);
    withRoom[room - size]!.push(batch);
  }

  const inOrder: number[][] = [];
  let room = 0;
  for (const [index, size] of sizes.entries()) {
    if (inOrder.length === 0 || size > room) {
      inOrder.push([]);
      room = budget;
    }
    inOrder.at(-1)!.push(index);
    room -= size;
  }

  if (inOrder.length <= fitted.length) return inOrder;
  for (const batch of fitted) batch.sort((a, b) => a - b);
  return fitted.sort(([a], [b]) => a! - b!);
}

/** Each response alone with its own copy of the prompt: the same numbers at a higher price. */
export function unsharedGroups(group: EncodedGroup): EncodedGroup[] {
  return group.responses.map((response) => ({ ...group, responses: [response] }));
}

/** The same group with the prompt before each response instead of once: one group still, at the price of several. */
export function withoutSharedPrompt(group: EncodedGroup): EncodedGroup {
  const { prompt } = group;
  const responses = group.responses.map((response) => ({
    ...response,
    tokens: Uint32Array.from([...prompt, ...response.tokens]),
    scored_from: prompt.length + response.scored_from,
  }));
  return { ...group, prompt: new Uint32Array(), responses };
}

/** Tokens of a group in a packed batch. */
export function streamTokens({ prompt, responses }: EncodedGroup): number {
  return responses.reduce((sum, response) => sum + inStream(response), prompt.length);
}

/** Tokens of a response that others see or that predict: all but the last, which is predicted only. */
function inStream({ tokens, predicts_next }: EncodedResponse): number {
  return predicts_next ? tokens.length : Math.max(0, tokens.length - 1);
}

/** The inverse of `head_tokens` as offsets and a list (compressed sparse rows), by a counting sort. */
function rowsByToken(
  headTokens: readonly number[],
  tokens: number,
): Pick<PackedBatch, "token_rows" | "token_row_list"> {
  const token_rows = new Uint32Array(tokens + 1);
  for (const token of headTokens) token_rows[token + 1]!++;
  for (let token = 0; token < tokens; token++) token_rows[token + 1]! += token_rows[token]!;
  const next = token_rows.slice();
  const token_row_list = new Uint32Array(headTokens.length);
  headTokens.forEach((token, row) => token_row_list[next[token]!++] = row);
  return { token_rows, token_row_list };
}
