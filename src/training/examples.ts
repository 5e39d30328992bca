import { readComparisons } from "../preference/comparisons.ts";
import type { EncodedGroup, EncodeSettings } from "../preference/encode.ts";
import { encodeBatch, type EncodedBatch, inBatches } from "../preference/encode_batch.ts";
import type { EncodePool } from "../preference/encode_pool.ts";
import type { Comparison, RowKind } from "../preference/rows.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import type { Dataset, LeftOutRow } from "./request.ts";

/** A data set as tokens. */
export interface Examples {
  readonly groups: readonly EncodedGroup[];
  readonly left_out: readonly LeftOutRow[];
  /** Rows whose prompt was cut. */
  readonly prompts_cut: number;
  /** Rows of which a response was cut. */
  readonly responses_cut: number;
}

/** Milliseconds after which others are served while a batch is waited for. */
const WAIT_MS = 20;

/**
 * Reads and tokenises a data set.
 *
 * @param vocabulary the model's vocabulary size
 * @param pause awaited every few rows, so that others are served meanwhile
 * @param pool tokenises large data sets with the same tokenizer and settings; null: all is done on this thread
 * @throws {InputError} for the first malformed row, naming its number, or a token id that the model does not have
 */
export async function readExamples(
  dataset: Dataset,
  kind: RowKind,
  tokenizer: Tokenizer,
  settings: EncodeSettings,
  vocabulary: number,
  pause: () => Promise<void>,
  pool: EncodePool | null = null,
): Promise<Examples> {
  const groups: EncodedGroup[] = [];
  const left_out: LeftOutRow[] = [];
  await using batches = inBatches(comparisons(dataset, kind));
  const encode = (batch: readonly Comparison[]): EncodedBatch | Promise<EncodedBatch> =>
    pool?.encode(batch) ?? encodeBatch(tokenizer, batch, settings, vocabulary);

  // In the order of the rows, so that the first error among them is the one that is told.
  const underWay: Promise<EncodedBatch | null>[] = [];
  for (let more = true; more || underWay.length > 0;) {
    while (more && underWay.length < (pool?.depth ?? 1)) {
      const read = batches.next();
      const encoded = read.then(({ done, value }) => done ? null : encode(value));
      encoded.catch(() => {}); // heard of when its turn comes
      underWay.push(encoded);
      more = await read.then(({ done }) => !done, () => false);
    }
    const batch = await awaited(underWay.shift()!, pause);
    groups.push(...batch?.groups ?? []);
    left_out.push(...batch?.left_out ?? []);
  }
  return {
    groups,
    left_out,
    prompts_cut: groups.filter((group) => group.prompt_truncated > 0).length,
    responses_cut: groups.filter((group) => group.responses.some((response) => response.truncated)).length,
  };
}

/** Awaits a batch, and pauses meanwhile and after it. */
async function awaited<T>(batch: Promise<T>, pause: () => Promise<void>): Promise<T> {
  while (true) {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<null>((resolve) => timer = setTimeout(resolve, WAIT_MS, null));
    const done = await Promise.race([batch.then((value) => ({ value })), late])
      .finally(() => clearTimeout(timer));
    await pause();
    if (done) return done.value;
  }
}

async function* comparisons(dataset: Dataset, kind: RowKind): AsyncGenerator<Comparison> {
  if ("path" in dataset) yield* readComparisons([dataset.path], kind);
  else if ("paths" in dataset) yield* readComparisons(dataset.paths, kind);
  else yield* dataset.comparisons;
}
