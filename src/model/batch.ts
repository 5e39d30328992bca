/** A batch as programs see it: live numbers within a budget. */
import type { Live } from "../gpu/mod.ts";

/** How much of the budget an uploaded batch fills. */
export interface BatchCounts {
  readonly tokens: number;
  /** Scored tokens. */
  readonly rows: number;
  /** Responses. */
  readonly sequences: number;
  /** Keys that the tokens attend to: their own, and those that are known. */
  readonly keys: number;
  /** Tokens whose keys and values are kept for later batches. */
  readonly kept: number;
  /** Distinct token ids; 0 where the embedding is frozen. */
  readonly distinct: number;
  /** Distinct positions; 0 where they are not learned, or frozen. */
  readonly distinct_positions: number;
}

export function tokensOf({ tokens }: BatchCounts): number {
  return tokens;
}

/** Live numbers of one batch. */
export interface BatchLive extends Live, BatchCounts {
  /** 0: nothing is dropped. */
  readonly dropout_seed: number;
}

/** The most that one batch may hold. */
export type Budget = Pick<BatchCounts, "tokens" | "rows" | "sequences">;

/** Lists each distinct id once with the tokens that have it. */
export function tokensById(token_ids: Uint32Array): Record<"ids" | "id_offsets" | "id_tokens", Uint32Array> {
  const id_tokens = Uint32Array.from(token_ids.keys()).sort((a, b) => token_ids[a]! - token_ids[b]! || a - b);
  const ids: number[] = [];
  const offsets: number[] = [];
  id_tokens.forEach((token, place) => {
    const id = token_ids[token]!;
    if (ids.at(-1) === id) return;
    ids.push(id);
    offsets.push(place);
  });
  return {
    ids: Uint32Array.from(ids),
    id_offsets: Uint32Array.from([...offsets, id_tokens.length]),
    id_tokens,
  };
}
