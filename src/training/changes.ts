/** Whether a run that goes on would go on over other rows, another tokenizer, template or other weights. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { exists, ignoreMissing } from "../model/_files.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";
import { readSealedJson, writeSealedJson } from "../model/sealed_json.ts";
import type { FoundCheckpoint } from "./checkpoint.ts";
import { type FileFingerprint, type Fingerprints, WHOLE_BYTES } from "./fingerprint.ts";
import type { Dataset, TrainRequest } from "./request.ts";
import { tokenFolder } from "./token_files.ts";

/** Something that is no longer what it was. */
interface Change {
  readonly field: "dataset" | "model";
  /** A clause: "rows.jsonl of the data set has changed". */
  readonly what: string;
}

/** Beside a job's tokens: what they were made of, for a life that finds no checkpoint. */
const FILE = "fingerprints.json";

/**
 * Compares what a run is made of with what it was when its checkpoint was written. Without a checkpoint it begins anew, and
 * tokens that were made of something else are made anew too.
 *
 * @param now as the files are
 * @param warn is told of what has changed where the run begins anew, or goes on all the same
 * @returns what the run is made of from now on
 * @throws {InputError} where it has changed and `request.accept_changes` is not true
 */
export async function settleChanges(
  request: TrainRequest,
  found: FoundCheckpoint | null,
  now: Fingerprints,
  warn: (message: string) => void,
): Promise<Fingerprints> {
  const folder = tokenFolder(request.directory);
  const path = join(folder, FILE);
  const before = found ? found.state.fingerprints : await exists(path) ? await readPrints(path) : null;
  if (found && before === null) {
    warn(
      `The checkpoint of step ${found.state.step} is of version 1, which keeps no fingerprints: whether the data set or ` +
        "the model has changed since is not known.",
    );
  }
  const changes = before ? changesOf(before, now) : [];
  if (changes.length > 0) {
    if (found) acceptOrRefuse(request, changes, found.state.step, warn);
    else warn(`${listOf(changes)} since the job was first begun: it begins anew.`);
    // rows whose files have gone are there as tokens alone
    if (!isGone(request.dataset)) await Deno.remove(folder, { recursive: true }).catch(ignoreMissing);
  }
  const settled = { ...now, rows: now.rows ?? before?.rows ?? null };
  await Deno.mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER });
  await writeSealedJson(path, { ...settled });
  return settled;
}

/**
 * Compares what shows only once it is read.
 *
 * @param seen the rows as tokens, or the weights as they were loaded
 * @throws {InputError} as {@link settleChanges}
 */
export function checkSeen(
  request: TrainRequest,
  found: FoundCheckpoint | null,
  seen: Partial<Pick<Fingerprints, "tokens" | "loaded">>,
  warn: (message: string) => void,
): void {
  const before = found?.state.fingerprints;
  if (!found || !before) return;
  const isOther = (name: "tokens" | "loaded") =>
    before[name] !== null && seen[name] != null && seen[name] !== before[name];
  const changes: Change[] = [
    ...isOther("tokens") ? [{ field: "dataset", what: "The rows as tokens have changed" } as const] : [],
    ...isOther("loaded") ? [{ field: "model", what: "The weights of the model have changed" } as const] : [],
  ];
  if (changes.length > 0) acceptOrRefuse(request, changes, found.state.step, warn);
}

/**
 * Says which large files were written again since the checkpoint, of which no more than blocks were compared.
 *
 * @param which those of the rows, or the weights where they were not compared as they were loaded
 */
export function warnOfRewritten(
  found: FoundCheckpoint | null,
  now: Fingerprints,
  which: "rows" | "weights",
  warn: (message: string) => void,
): void {
  for (const [i, { name, bytes, modified }] of (now[which] ?? []).entries()) {
    const before = found?.state.fingerprints?.[which]?.[i];
    if (bytes <= WHOLE_BYTES || !before || before.modified === modified || before.bytes !== bytes) continue;
    warn(
      `${name} was written again since the checkpoint of step ${
        found!.state.step
      }: 64 blocks of it are as they were, ` +
        "the rest was not compared.",
    );
  }
}

function acceptOrRefuse(
  { accept_changes = false }: TrainRequest,
  changes: readonly Change[],
  step: number,
  warn: (message: string) => void,
): void {
  const sentence = `${listOf(changes)} since the checkpoint of step ${step} was written`;
  if (accept_changes) {
    return warn(`${sentence}: the run goes on over what is there now, as accept_changes asks.`);
  }
  throw new InputError(`${sentence}: the run would go on over something else than it began with.`, {
    path: [changes[0]!.field],
    accepted:
      "the files as they were; or resume the job with accept_changes true, to go on over what is there now",
  });
}

function changesOf(before: Fingerprints, now: Fingerprints): Change[] {
  return [
    ...filesOf(before.rows, now.rows, "dataset", "the data set"),
    ...before.tokenizer === now.tokenizer
      ? []
      : [{ field: "model", what: "The tokenizer of the model has changed" } as const],
    ...before.template === now.template
      ? []
      : [{ field: "model", what: "The chat template of the model has changed" } as const],
    ...filesOf(before.weights, now.weights, "model", "the model"),
  ];
}

function filesOf(
  before: readonly FileFingerprint[] | null,
  now: readonly FileFingerprint[] | null,
  field: Change["field"],
  whose: string,
): Change[] {
  if (before === null || now === null) return [];
  if (before.length !== now.length) {
    return [{
      field,
      what: `The number of files of ${whose} has changed from ${before.length} to ${now.length}`,
    }];
  }
  return now.flatMap((file, i): Change[] => {
    const { bytes, crc32 } = before[i]!;
    if (bytes !== file.bytes) {
      return [{ field, what: `${file.name} of ${whose} has changed from ${bytes} to ${file.bytes} bytes` }];
    }
    return crc32 === file.crc32 ? [] : [{ field, what: `${file.name} of ${whose} has changed` }];
  });
}

/** The first three, and how many more. */
function listOf(changes: readonly Change[]): string {
  const shown = changes.slice(0, 3).map(({ what }, i) =>
    i === 0 ? what : what.replace(/^The number|^The/, (word) => word.toLowerCase())
  );
  const more = changes.length - shown.length;
  return [...shown, ...more > 0 ? [`${more} more files have changed`] : []].join(", and ");
}

/** Whether a data set's files have gone, so that its tokens are all there is of it. */
export function isGone(dataset: Dataset): boolean {
  return "paths" in dataset && dataset.paths.length === 0;
}

/** A damaged one says nothing: the run begins anew as well. */
async function readPrints(path: string): Promise<Fingerprints | null> {
  try {
    return await readSealedJson(path) as unknown as Fingerprints;
  } catch (error) {
    if (error instanceof InputError) return null;
    throw error;
  }
}
