import { InputError } from "../errors.ts";
import { readDataFiles } from "../preference/data_files.ts";
import type { EncodedGroup, EncodeSettings } from "../preference/encode.ts";
import { encodeBatch, type EncodedBatch, inBatches } from "../preference/encode_batch.ts";
import type { EncodePool } from "../preference/encode_pool.ts";
import { allowedFaults, RowReader, type RowsReport, tooManyLeftOut } from "../preference/row_reader.ts";
import type { Comparison, RowKind } from "../preference/rows.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import { Lengths } from "./lengths.ts";
import type { RowSource } from "./request.ts";

/** What was made of a source of rows. */
export interface Examples {
  readonly report: RowsReport;
  /** Groups that were made. */
  readonly groups: number;
  /** Rows whose prompt was cut. */
  readonly prompts_cut: number;
  /** Rows of which a response was cut. */
  readonly responses_cut: number;
  /** Tokens before anything was cut: of prompts, and of prompts with their longest response. */
  readonly lengths: { readonly prompt: Lengths; readonly whole: Lengths };
}

/** How rows become tokens. */
export interface ReadOptions {
  readonly kind: RowKind;
  readonly tokenizer: Tokenizer;
  readonly settings: EncodeSettings;
  /** The model's vocabulary size. */
  readonly vocabulary: number;
  /** Share of the rows that may be left out because they cannot be used. */
  readonly maxLeftOut: number;
  /** Awaited every few rows, so that others are served meanwhile. */
  readonly pause: () => Promise<void>;
  /** Called with the number of each row before it is tokenised on this thread. */
  readonly onRow?: ((row: number) => void) | undefined;
  /** Called as the files' rows are read, those too that are passed over. */
  readonly onRead?: (() => void) | undefined;
  /** Tokenises large data sets with the same tokenizer and settings; null: all is done on this thread. */
  readonly pool?: EncodePool | null;
}

/** Milliseconds after which others are served while a batch is waited for. */
const WAIT_MS = 20;

/**
 * Reads and tokenises a source of rows.
 *
 * @param take is given each group, in the order of the rows
 * @throws {InputError} naming the first row that cannot be used where there are too many, or a token id that the model
 * does not have
 */
export async function readExamples(
  source: RowSource,
  { kind, tokenizer, settings, vocabulary, maxLeftOut, pause, onRow, onRead, pool = null }: ReadOptions,
  take: (group: EncodedGroup) => void,
): Promise<Examples> {
  const reader = new RowReader({ kind, columns: source.columns, pairs: source.pairs });
  await using batches = inBatches(comparisons(source, reader, onRead));
  const encode = (batch: readonly Comparison[]): EncodedBatch | Promise<EncodedBatch> =>
    pool?.encode(batch) ?? encodeBatch(tokenizer, batch, settings, vocabulary, onRow);

  let [groups, prompts_cut, responses_cut] = [0, 0, 0];
  const lengths = { prompt: new Lengths(), whole: new Lengths() };
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
    for (const group of batch?.groups ?? []) {
      groups++;
      if (group.prompt_truncated > 0) prompts_cut++;
      if (group.responses.some(({ truncated }) => truncated)) responses_cut++;
      take(group);
    }
    for (const { prompt, whole } of batch?.uncut ?? []) {
      lengths.prompt.add(prompt);
      lengths.whole.add(whole);
    }
    for (const { row, reason } of batch?.left_out ?? []) {
      const sentence = (place: string) => `${place} cannot be used: ${reason.replace(/\.$/, "")}.`;
      reader.left_out.fault(row, reason, () => new InputError(sentence, { path: [{ row }] }));
    }
  }
  const report = reader.report();
  checkLeftOut(reader, report, groups, maxLeftOut);
  return { report, groups, prompts_cut, responses_cut, lengths };
}

/** @throws {InputError} where too many rows cannot be used, or none is left */
function checkLeftOut(
  reader: RowReader,
  { rows, left_out }: RowsReport,
  groups: number,
  maxLeftOut: number,
): void {
  const { firstFault, faults } = reader.left_out;
  if (firstFault !== null && (faults > allowedFaults(rows, maxLeftOut) || groups === 0)) {
    throw tooManyLeftOut(firstFault, rows, left_out, maxLeftOut);
  }
  if (groups > 0) return;
  const why = left_out.reasons.map(({ reason, count }) => `${count} left out (${reason})`).join(", ");
  throw new InputError((field) => `${field} has no usable row: ${why || "it has no rows"}.`, {
    path: [],
    accepted: "rows of which every response has a token",
  });
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

async function* comparisons(
  source: RowSource,
  reader: RowReader,
  onRead: (() => void) | undefined,
): AsyncGenerator<Comparison> {
  if ("comparisons" in source) {
    if (source.report) reader.take(source.report);
    else reader.count(source.comparisons.length);
    yield* source.comparisons;
    return;
  }
  const { limit = Infinity } = source;
  let rows = 0;
  const columns = (names: readonly string[]) => reader.choose(names);
  const paths = "path" in source ? [source.path] : source.paths;
  for await (const row of readDataFiles(paths, { columns, onRead })) {
    if (++rows > limit) return;
    yield* reader.read(row);
  }
}
