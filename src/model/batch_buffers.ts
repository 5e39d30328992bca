/** A packed batch on the GPU. */
import type { Gpu, Tensor, Tensors } from "../gpu/mod.ts";
import type { TokensById } from "../gpu/ops/embedding.ts";
import type { PackedBatch } from "../preference/pack.ts";
import { type BatchCounts, type Budget, tokensById } from "./batch.ts";
import type { Buffers } from "./layers/buffers.ts";

/** Keys that a batch's tokens attend to beside those of its own, as the host has them: sources [keys], moves [kept, 2]. */
export type KnownKeys = Readonly<Record<"sources" | "moves", Uint32Array>>;

/**
 * A batch of prompts whose first keys and values are known: kept from earlier batches, or of other tokens in this one.
 *
 * - places [tokens]; see PackedBatch. Keys and values have a row a place.
 * - sources [keys]: where the row of each place comes from, as recordGatherKnownRows() has it.
 * - moves [tokens, 2]: tokens whose keys and values are kept, and the rows that keep them.
 */
export type KnownBuffers = Tensors<"places" | "sources" | "moves">;

/** Shapes of what is the same for every use of a batch; see PackedBatch. */
const SHAPES = {
  token_ids: ({ tokens }: Budget) => [tokens],
  positions: ({ tokens }: Budget) => [tokens],
  spans: ({ tokens }: Budget) => [tokens, 4],
  head_tokens: ({ rows }: Budget) => [rows],
  targets: ({ rows }: Budget) => [rows],
  token_rows: ({ tokens }: Budget) => [tokens + 1],
  token_row_list: ({ rows }: Budget) => [rows],
  sequence_rows: ({ sequences }: Budget) => [sequences + 1],
};
type Packed = keyof typeof SHAPES;
const PACKED = Object.keys(SHAPES) as readonly Packed[];

/** What is made of a batch beside what it is as packed. */
export interface BatchUse {
  /** Whether the rows of these tables get a gradient. */
  readonly embedding: boolean;
  readonly positions: boolean;
  /** As PassOptions has it. */
  readonly coefficients: "sequence" | "row";
}

/** A batch as it was uploaded. */
export interface BatchBuffers extends Readonly<Record<Packed, Tensor>> {
  /** [rows]: which coefficient is a row's. */
  readonly row_coefficients: Tensor;
  readonly by_id: TokensById;
  /** The same by position. */
  readonly by_position: TokensById;
  /** null where no keys are known. */
  readonly known: KnownBuffers | null;
  readonly use: BatchUse;
}

/** @param keys that a batch's tokens attend to at most, where some are known */
export function batchBuffers(
  buffers: Buffers,
  budget: Budget,
  use: BatchUse,
  keys: number | undefined,
): BatchBuffers {
  const { tokens, rows } = budget;
  const u32 = (name: string, ...shape: number[]) => buffers.u32(`batch.${name}`, ...shape);
  const by = (what: string): TokensById => ({
    ids: u32(`by_${what}.ids`, tokens),
    id_offsets: u32(`by_${what}.id_offsets`, tokens + 1),
    id_tokens: u32(`by_${what}.id_tokens`, tokens),
  });
  const packed = PACKED.map((name) => [name, u32(name, ...SHAPES[name](budget))]);
  return {
    ...Object.fromEntries(packed) as Record<Packed, Tensor>,
    row_coefficients: u32("row_coefficients", rows),
    by_id: by("id"),
    by_position: by("position"),
    known: keys === undefined ? null : {
      places: buffers.u32("known.places", tokens),
      sources: buffers.u32("known.sources", keys),
      moves: buffers.u32("known.moves", tokens, 2),
    },
    use,
  };
}

/**
 * Queues a batch for the next run.
 *
 * @param known where some of the keys that it attends to come from, and which of its own are kept
 */
export function uploadBatch(
  gpu: Gpu,
  buffers: BatchBuffers,
  batch: PackedBatch,
  known: KnownKeys | null,
): BatchCounts {
  const { tokens, rows, sequences, sequence_rows } = batch;
  const { use } = buffers;
  for (const name of PACKED) gpu.write(buffers[name], batch[name]);
  const own = new Uint32Array(rows);
  if (use.coefficients === "row") { for (let row = 0; row < rows; row++) own[row] = row; }
  else for (let s = 0; s < sequences; s++) own.fill(s, sequence_rows[s], sequence_rows[s + 1]);
  gpu.write(buffers.row_coefficients, own);
  if (known) {
    const { places, sources, moves } = buffers.known!;
    gpu.write(places, batch.places);
    gpu.write(sources, known.sources);
    gpu.write(moves, known.moves);
  }
  return {
    tokens,
    rows,
    sequences,
    keys: known ? known.sources.length : tokens,
    kept: known ? known.moves.length / 2 : 0,
    distinct: use.embedding ? uploadById(gpu, buffers.by_id, batch.token_ids) : 0,
    distinct_positions: use.positions ? uploadById(gpu, buffers.by_position, batch.positions) : 0,
  };
}

/** @returns the number of distinct ids */
function uploadById(gpu: Gpu, buffers: TokensById, token_ids: Uint32Array): number {
  const byId = tokensById(token_ids);
  for (const name of ["ids", "id_offsets", "id_tokens"] as const) gpu.write(buffers[name], byId[name]);
  return byId.ids.length;
}
