import {
  checkTokenIds,
  encodeComparison,
  type EncodedGroup,
  type EncodeSettings,
} from "../preference/encode.ts";
import { readDataFiles } from "../preference/data_files.ts";
import { type Comparison, parseRow, type RowKind } from "../preference/rows.ts";
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

const ROWS_BETWEEN_PAUSES = 64;

/**
 * Reads and tokenises a data set.
 *
 * @param vocabulary the model's vocabulary size
 * @param pause awaited every few rows, so that others are served meanwhile
 * @throws {InputError} for a malformed row, naming its number, or a token id that the model does not have
 */
export async function readExamples(
  dataset: Dataset,
  kind: RowKind,
  tokenizer: Tokenizer,
  settings: EncodeSettings,
  vocabulary: number,
  pause: () => Promise<void>,
): Promise<Examples> {
  const groups: EncodedGroup[] = [];
  const left_out: LeftOutRow[] = [];
  let seen = 0;
  for await (const comparison of comparisons(dataset, kind)) {
    const encoded = encodeComparison(tokenizer, comparison, settings);
    if (encoded.group) {
      checkTokenIds(encoded.group, vocabulary, `row ${encoded.group.row}`);
      groups.push(encoded.group);
    } else {
      const { row, reason } = encoded.left_out;
      left_out.push({ row, reason });
    }
    if (++seen % ROWS_BETWEEN_PAUSES === 0) await pause();
  }
  return {
    groups,
    left_out,
    prompts_cut: groups.filter((group) => group.prompt_truncated > 0).length,
    responses_cut: groups.filter((group) => group.responses.some((response) => response.truncated)).length,
  };
}

async function* comparisons(dataset: Dataset, kind: RowKind): AsyncGenerator<Comparison> {
  if ("path" in dataset) yield* readDataFiles([dataset.path], kind);
  else if ("paths" in dataset) yield* readDataFiles(dataset.paths, kind);
  else for (const [index, row] of dataset.rows.entries()) yield parseRow(row, index + 1, kind);
}
