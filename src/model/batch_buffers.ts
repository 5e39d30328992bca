/** A packed batch on the GPU. */
import type { Gpu, Tensor } from "../gpu/mod.ts";
import type { PackedBatch } from "../preference/pack.ts";
import { type BatchCounts, type Budget, tokensById } from "./batch.ts";
import type { Buffers } from "./layers/buffers.ts";

/** Keys that a batch's tokens attend to beside those of its own, as the host has them. */
export interface KnownKeys {
  /** [keys] */
  readonly sources: Uint32Array;
  /** [kept, 2] */
  readonly moves: Uint32Array;
}

/** A batch of prompts whose first keys and values are known: kept from earlier batches, or of other tokens in this one. */
export interface KnownBuffers {
  /** [tokens]; see PackedBatch. Keys and values have a row a place. */
  readonly places: Tensor;
  /** [keys]: where the row of each place comes from, as recordGatherKnownRows() has it. */
  readonly sources: Tensor;
  /** [tokens, 2]: tokens whose keys and values are kept, and the rows that keep them. */
  readonly moves: Tensor;
}

/** What is uploaded of every batch as it is packed. */
const PACKED = [
  "token_ids",
  "positions",
  "spans",
  "head_tokens",
  "targets",
  "token_rows",
  "token_row_list",
  "sequence_rows",
] as const;

/** A batch as it was uploaded; see PackedBatch, of tokens by id and by position {@link tokensById}. */
export type BatchBuffers =
  & Readonly<Record<typeof PACKED[number], Tensor>>
  & Readonly<Record<"ids" | "id_offsets" | "id_tokens", Tensor>>
  & Readonly<Record<"position_ids" | "position_offsets" | "position_tokens", Tensor>>
  & {
    /** [rows]: which coefficient is a row's. */
    readonly row_coefficients: Tensor;
    /** null where no keys are known. */
    readonly known: KnownBuffers | null;
  };

/** @param keys that a batch's tokens attend to at most, where some are known */
export function batchBuffers(buffers: Buffers, budget: Budget, keys: number | undefined): BatchBuffers {
  const { tokens, rows, sequences } = budget;
  const u32 = (name: string, ...shape: number[]) => buffers.u32(`batch.${name}`, ...shape);
  return {
    token_ids: u32("token_ids", tokens),
    positions: u32("positions", tokens),
    spans: u32("spans", tokens, 4),
    head_tokens: u32("head_tokens", rows),
    targets: u32("targets", rows),
    row_coefficients: u32("row_coefficients", rows),
    token_rows: u32("token_rows", tokens + 1),
    token_row_list: u32("token_row_list", rows),
    ids: u32("ids", tokens),
    id_offsets: u32("id_offsets", tokens + 1),
    id_tokens: u32("id_tokens", tokens),
    position_ids: u32("position_ids", tokens),
    position_offsets: u32("position_offsets", tokens + 1),
    position_tokens: u32("position_tokens", tokens),
    sequence_rows: u32("sequence_rows", sequences + 1),
    known: keys === undefined ? null : {
      places: buffers.u32("known.places", tokens),
      sources: buffers.u32("known.sources", keys),
      moves: buffers.u32("known.moves", tokens, 2),
    },
  };
}

/**
 * Queues a batch for the next run.
 *
 * @param trained of which tables the rows get a gradient
 * @param coefficients as PassOptions has it
 * @param known where some of the keys that it attends to come from, and which of its own are kept
 */
export function uploadBatch(
  gpu: Gpu,
  buffers: BatchBuffers,
  batch: PackedBatch,
  trained: { readonly embedding: boolean; readonly positions: boolean },
  coefficients: "sequence" | "row",
  known: KnownKeys | null,
): BatchCounts {
  const { tokens, rows, sequences, sequence_rows } = batch;
  for (const name of PACKED) gpu.write(buffers[name], batch[name]);
  const own = Uint32Array.from({ length: rows }, (_, row) => row);
  if (coefficients === "sequence") {
    for (let s = 0; s < sequences; s++) own.fill(s, sequence_rows[s], sequence_rows[s + 1]);
  }
  gpu.write(buffers.row_coefficients, own);
  if (known) {
    const { places, sources, moves } = buffers.known!;
    gpu.write(places, batch.places);
    gpu.write(sources, known.sources);
    gpu.write(moves, known.moves);
  }
  const { ids, id_offsets, id_tokens, position_ids, position_offsets, position_tokens } = buffers;
  return {
    tokens,
    rows,
    sequences,
    keys: known ? known.sources.length : tokens,
    kept: known ? known.moves.length / 2 : 0,
    distinct: trained.embedding ? uploadById(gpu, batch.token_ids, [ids, id_offsets, id_tokens]) : 0,
    distinct_positions: trained.positions
      ? uploadById(gpu, batch.positions, [position_ids, position_offsets, position_tokens])
      : 0,
  };
}

/** @returns the number of distinct ids */
function uploadById(gpu: Gpu, tokens: Uint32Array, [ids, offsets, list]: readonly [Tensor, Tensor, Tensor]) {
  const byId = tokensById(tokens);
  gpu.write(ids, byId.ids);
  gpu.write(offsets, byId.id_offsets);
  gpu.write(list, byId.id_tokens);
  return byId.ids.length;
}
