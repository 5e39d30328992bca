/** Lengths of one packed group: its prompt and each response, in tokens. */
export interface GroupLengths {
  readonly prompt: number;
  readonly responses: readonly number[];
}

/** Index tables of a packed stream, written independently of `src/preference/pack.ts`. */
export interface PackedExample {
  readonly tokens: number;
  readonly rows: number;
  /** [tokens] */
  readonly positions: Uint32Array;
  /** [tokens, 4]: prefix_start, prefix_end, segment_start, queries_end */
  readonly spans: Uint32Array;
  /** Stream index of the hidden state that predicts each row, [rows]. */
  readonly headTokens: Uint32Array;
  /** Stream index of the token that each row predicts, [rows]. */
  readonly targetTokens: Uint32Array;
  /** [sequences + 1] */
  readonly sequenceRows: Uint32Array;
  /** [tokens + 1] */
  readonly tokenRows: Uint32Array;
  /** [rows], grouped by the token that predicts them */
  readonly tokenRowList: Uint32Array;
}

/**
 * Lays groups out in one stream, each prompt once before its responses. Every response token is scored; where the
 * prompt is empty a response's first token has nothing to predict it and is not.
 *
 * @param groups lengths of the prompts and their responses
 */
export function packedExample(groups: readonly GroupLengths[]): PackedExample {
  const positions: number[] = [];
  const spans: number[] = [];
  const headTokens: number[] = [];
  const targetTokens: number[] = [];
  const sequenceRows = [0];
  for (const { prompt, responses } of groups) {
    const start = positions.length;
    const promptEnd = start + prompt;
    const end = promptEnd + responses.reduce((sum, length) => sum + length, 0);
    for (let i = 0; i < prompt; i++) {
      positions.push(i);
      spans.push(start, start, start, end);
    }
    for (const length of responses) {
      const segment = positions.length;
      for (let i = 0; i < length; i++) {
        positions.push(prompt + i);
        spans.push(start, promptEnd, segment, segment + length);
        if (i === 0 && prompt === 0) continue;
        headTokens.push(i === 0 ? promptEnd - 1 : segment + i - 1);
        targetTokens.push(segment + i);
      }
      sequenceRows.push(headTokens.length);
    }
  }
  const rowsOf = positions.map((_, token) => headTokens.flatMap((t, row) => t === token ? [row] : []));
  const tokenRows = [0];
  for (const rows of rowsOf) tokenRows.push(tokenRows.at(-1)! + rows.length);
  return {
    tokens: positions.length,
    rows: headTokens.length,
    positions: Uint32Array.from(positions),
    spans: Uint32Array.from(spans),
    headTokens: Uint32Array.from(headTokens),
    targetTokens: Uint32Array.from(targetTokens),
    sequenceRows: Uint32Array.from(sequenceRows),
    tokenRows: Uint32Array.from(tokenRows),
    tokenRowList: Uint32Array.from(rowsOf.flat()),
  };
}
