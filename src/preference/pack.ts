import type { EncodedGroup } from "./encode.ts";

/** One response's place in a packed batch. */
export interface PackedSequence {
  /** Index in the groups that were packed. */
  readonly group: number;
  /** Index in the group's responses. */
  readonly response: number;
  /** Scored tokens. */
  readonly num_tokens: number;
}

/** Groups as one flat stream without padding. Every index below is an index into the stream. */
export interface PackedBatch {
  readonly tokens: number;
  /** Scored tokens of all sequences. */
  readonly rows: number;
  readonly sequences: number;
  /** [tokens] */
  readonly token_ids: Uint32Array;
  /** [tokens], from 0 in every group; each response goes on from the prompt's end. */
  readonly positions: Uint32Array;
  /**
   * [tokens, 4]: prefix_start, prefix_end, segment_start, queries_end. Token i attends to [prefix_start, prefix_end) and
   * [segment_start, i]; only queries in [i, queries_end) can attend to it.
   */
  readonly spans: Uint32Array;
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
  readonly sequence_info: readonly PackedSequence[];
}

/** Packs groups in their order. */
export function packGroups(_groups: readonly EncodedGroup[]): PackedBatch {
  throw new Error("not yet");
}

/** Tokens that a group takes in a packed batch. */
export function groupTokens(_group: EncodedGroup): number {
  throw new Error("not yet");
}

/** Splits groups, in their order, into batches of at most `budget` tokens. @throws InputError for a group above it */
export function splitIntoBatches(_groups: readonly EncodedGroup[], _budget: number): EncodedGroup[][] {
  throw new Error("not yet");
}

/** Each response alone with its own copy of the prompt. */
export function unsharedGroups(_group: EncodedGroup): EncodedGroup[] {
  throw new Error("not yet");
}
