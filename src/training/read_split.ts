/** A data set of a job to groups of tokens, source after source. */
import type { TrainingSettings } from "../api/settings.ts";
import { within } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { objectiveOf } from "../objective/mod.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { type Examples, readExamples, type ReadOptions } from "./examples.ts";
import { type Fingerprint, fingerprint, type Source } from "./mixture.ts";
import type { Dataset, RowSource } from "./request.ts";
import { reportOf, type SplitReport } from "./split_report.ts";

/** What rows are read by. */
export interface Reading extends Pick<ReadOptions, "tokenizer" | "pause" | "onRow" | "onRead" | "pool"> {
  readonly config: ModelConfig;
}

/** A data set as it was read. */
export interface ReadSplit {
  readonly examples: readonly Examples[];
  /** Which of all groups are of which source. */
  readonly sources: readonly Source[];
  readonly report: SplitReport;
}

/**
 * Reads and tokenises every source of a data set.
 *
 * @param prints of all groups so far; this one's are added
 * @param take is given each group, in the order of the rows
 * @throws {InputError} as {@link readExamples}, at the source's place
 */
export async function readSplit(
  dataset: Dataset,
  { config, ...reading }: Reading,
  settings: TrainingSettings,
  prints: Fingerprint[],
  take: (group: EncodedGroup) => void,
): Promise<ReadSplit> {
  const kind = objectiveOf(settings.method).rows;
  const { max_left_out: maxLeftOut } = settings;
  const options = { ...reading, kind, settings, vocabulary: config.vocab_size, maxLeftOut };
  const examples: Examples[] = [];
  const sources: Source[] = [];
  const read = async (source: RowSource) => {
    const first = prints.length;
    const made = await readExamples(source, options, (group) => {
      prints.push(fingerprint(group));
      take(group);
    });
    examples.push(made);
    sources.push({ first, end: prints.length, weight: source.weight ?? 1 });
  };
  if (!isList(dataset)) await read(dataset);
  else for (const [i, source] of dataset.entries()) await within([i], () => read(source));
  return { examples, sources, report: reportOf(examples, { ...reading, config, settings }) };
}

function isList(dataset: Dataset): dataset is readonly RowSource[] {
  return Array.isArray(dataset);
}
