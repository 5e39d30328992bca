import { basename, dirname, join } from "node:path";
import { InputError } from "../errors.ts";
import type { Gpu, Tensor } from "../gpu/mod.ts";
import { isObject } from "../json.ts";
import {
  entryNames,
  exists,
  fileError,
  flushFolder,
  ignoreMissing,
  readJsonObject,
} from "../model/_files.ts";
import { checkFiles, type Checksums, checksumsOf } from "../model/checksums.ts";
import type { ParameterSegment } from "../model/parameters.ts";
import { WeightFiles as Safetensors } from "../model/safetensors.ts";
import { type TensorSource, writeSafetensors } from "../model/safetensors_writer.ts";
import { readSealedJson, writeSealedJson } from "../model/sealed_json.ts";
import { simpo } from "../objective/simpo.ts";
import { pieces } from "./_trained_values.ts";
import { checkpointName, MANIFEST, OPTIMIZER, STATE, stepOf } from "./checkpoint_files.ts";
import type { Fingerprints } from "./fingerprint.ts";
import type { RunShape } from "./memory_plan.ts";
import type { Trainable } from "./trainable.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";

/** Of what {@link writeCheckpoint} writes. Version 1 had its state in a file of its own, and no checksums. */
const VERSION = 2;

/** What a run must remember beside its parameters; the data's position and random masks follow from the step. */
export interface RunState {
  /** Updates done. */
  readonly step: number;
  /** Tokens of all examples so far. */
  readonly num_tokens: number;
  /** How the run was laid out in memory: sums in another order would not come out the same, bit for bit. */
  readonly shape?: RunShape;
  /** Metrics summed since the last logged step, by their columns' names. */
  readonly metrics: Readonly<Record<string, number>>;
  /** Tokens of the steps since the last logged one, and what their micro-batches had room for. */
  readonly filled: { readonly tokens: number; readonly room: number };
  /** Gradient norm of the last update. */
  readonly grad_norm: number;
  /** Whether the last step's logging and evaluation are done. */
  readonly logged: boolean;
  /** Every metrics event so far, so that none is lost however the process ended. */
  readonly history: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[];
  /** What an objective remembers beside the parameters: whatever it will, none of today's has any. */
  readonly objective_state: Readonly<Record<string, unknown>>;
  /** What the run was made of; null where that is not known, as in version 1. */
  readonly fingerprints: Fingerprints | null;
}

/**
 * Writes `step-NNNNNN/` under `folder`, whole or not at all: made under another name, flushed, renamed.
 *
 * @param keep how many of the newest stay
 * @throws {NonFiniteError} where a parameter holds a number that is none. Moments are not looked at: an update whose squared
 * gradients overflow is left out, so theirs are finite as long as the parameters' are.
 */
export async function writeCheckpoint(
  gpu: Gpu,
  folder: string,
  trainable: Trainable,
  state: RunState,
  keep: number,
): Promise<void> {
  const name = checkpointName(state.step);
  const aside = join(folder, `.${name}.partial`);
  await Deno.mkdir(folder, { recursive: true, mode: PRIVATE_FOLDER });
  await Deno.remove(aside, { recursive: true }).catch(ignoreMissing);
  await Deno.mkdir(aside, { mode: PRIVATE_FOLDER });
  try {
    const learned = await trainable.save(aside);
    const optimizer = await writeSafetensors(join(aside, OPTIMIZER), momentsOf(gpu, trainable));
    const files = await checksumsOf(aside, { ...learned, [OPTIMIZER]: optimizer });
    await writeSealedJson(join(aside, MANIFEST), { version: VERSION, job: jobOf(folder), ...state, files });
    await Deno.remove(join(folder, name), { recursive: true }).catch(ignoreMissing);
    await Deno.rename(aside, join(folder, name));
  } catch (error) {
    await Deno.remove(aside, { recursive: true }).catch(() => {}); // the room may be wanted elsewhere
    throw error;
  }
  await flushFolder(folder);
  await flushFolder(dirname(folder)); // the first has made the folder itself
  const old = (await checkpoints(folder)).slice(0, -keep);
  // what an earlier process was killed over
  const begun = await pathsIn(folder, /^\.step-\d+\.partial$/);
  for (const path of [...old, ...begun]) await Deno.remove(path, { recursive: true });
}

/** A checkpoint to go on from. */
export interface FoundCheckpoint {
  readonly path: string;
  readonly state: RunState;
}

/**
 * The newest checkpoint whose files are as they were written; null where there is none at all. A damaged one with an older
 * behind it is put aside as `step-NNNNNN.damaged`, so that nobody takes it for the newest.
 *
 * @param files what `Trainable.save` writes, by name
 * @param warn is told of each that is put aside, and why
 * @param between called between two pieces of what is read; what it throws ends the reading
 * @throws {InputError} where the oldest is damaged too, or the newest is of a version that is not known yet
 */
export async function findCheckpoint(
  folder: string,
  files: readonly string[],
  warn: (message: string) => void,
  between?: () => Promise<void>,
): Promise<FoundCheckpoint | null> {
  const found = await checkpoints(folder);
  for (let path = found.pop(); path !== undefined; path = found.pop()) {
    try {
      return { path, state: await checkedState(path, [OPTIMIZER, ...files], between) };
    } catch (error) {
      const older = found.at(-1);
      if (!(error instanceof InputError) || error instanceof LaterVersion || older === undefined) throw error;
      await Deno.remove(`${path}.damaged`, { recursive: true }).catch(ignoreMissing);
      await Deno.rename(path, `${path}.damaged`);
      const names = [path, older].map((path) => basename(path));
      warn(`The checkpoint ${names[0]} is damaged, so the run goes on from ${names[1]}: ${error.message}`);
    }
  }
  return null;
}

/** Whose checkpoints are in a folder: another job's would be gone on from without a word. */
function jobOf(checkpoints: string): string {
  return basename(dirname(checkpoints));
}

/** A checkpoint that a later worker has written: it is not damaged. */
class LaterVersion extends InputError {}

/**
 * A checkpoint's state, after all its files were compared with their checksums; of version 1 only what their headers tell.
 *
 * @throws {InputError} where one is not whole
 */
async function checkedState(
  checkpoint: string,
  names: readonly string[],
  between?: () => Promise<void>,
): Promise<RunState> {
  const manifest = await readManifest(checkpoint);
  for (const name of names) {
    if (manifest && Object.hasOwn(manifest.files, name)) continue;
    const path = join(checkpoint, name);
    if (path.endsWith(".json")) await readJsonObject(path);
    else (await Safetensors.openFile(path)).close();
  }
  if (manifest) await checkFiles(checkpoint, manifest.files, between);
  return manifest?.state ?? await readFirstState(checkpoint);
}

/**
 * What a checkpoint says of itself.
 *
 * @returns null for one of version 1, which has none
 * @throws {InputError} where it is damaged, or of a later version
 */
async function readManifest(
  checkpoint: string,
): Promise<{ readonly state: RunState; readonly files: Checksums } | null> {
  const path = join(checkpoint, MANIFEST);
  if (!await exists(path) && await exists(join(checkpoint, STATE))) return null;
  const { version, job, files, ...state } = await readSealedJson(path);
  if (version === VERSION) {
    const { step, metrics, history } = state;
    const whole = isObject(files) && isObject(metrics) && Array.isArray(history);
    const own = [undefined, jobOf(dirname(checkpoint))].includes(job as string) &&
      step === stepOf(basename(checkpoint));
    if (whole && own) return { state: state as unknown as RunState, files: files as Checksums };
    const predicate = own ? "is of another form" : `is of step ${step} of ${job ?? "an unknown job"}`;
    throw fileError(MANIFEST, predicate, "the file as the worker wrote it in this place");
  }
  throw new LaterVersion((file) => `${file} of ${basename(checkpoint)} is of version ${version}.`, {
    path: [{ file: MANIFEST }],
    value: version,
    accepted: `a checkpoint of version 1 or ${VERSION}; a later worker wrote this one`,
  });
}

/** Reads a checkpoint's state. @throws {InputError} where it was damaged */
export async function readRunState(checkpoint: string): Promise<RunState> {
  return (await readManifest(checkpoint))?.state ?? await readFirstState(checkpoint);
}

/** The state of a checkpoint of version 1, whose metrics have no names: they were those of SimPO whatever the method. */
async function readFirstState(checkpoint: string): Promise<RunState> {
  const { window, ...state } = await readJsonObject(join(checkpoint, STATE));
  if (Number.isSafeInteger(state["step"]) && Array.isArray(window) && Array.isArray(state["history"])) {
    const metrics = Object.fromEntries(simpo.columns.map((name, i) => [name, window[i]]));
    return { ...state as unknown as RunState, metrics, objective_state: {}, fingerprints: null };
  }
  const predicate = `of the checkpoint ${basename(checkpoint)} is not as the worker wrote it`;
  throw fileError(STATE, predicate, "the file as the worker wrote it");
}

/**
 * Uploads a checkpoint's AdamW moments.
 *
 * @param between called between two pieces of the file; what it throws ends the reading
 */
export async function restoreMoments(
  gpu: Gpu,
  checkpoint: string,
  segments: readonly ParameterSegment[],
  between: () => Promise<void>,
): Promise<void> {
  using file = await Safetensors.openFile(join(checkpoint, OPTIMIZER));
  for (const [i, { mean, variance, count }] of segments.entries()) {
    for (const [name, tensor] of [[`mean.${i}`, mean], [`variance.${i}`, variance]] as const) {
      file.expect(name, [count]);
      for (let at = 0; at < count; at += PIECE) {
        gpu.write(tensor, await file.readRows(name, at, Math.min(PIECE, count - at)), at * 4);
        gpu.device.queue.submit([]);
        await between();
      }
    }
  }
}

const PIECE = 4 * 2 ** 20; // elements

/** AdamW's moments of all segments. */
function momentsOf(gpu: Gpu, { trained }: Trainable): TensorSource[] {
  return trained.segments.flatMap((segment, i) =>
    (["mean", "variance"] as const).map((part): TensorSource => ({
      name: `${part}.${i}`,
      dtype: "F32",
      shape: [segment.count],
      data: momentBytes(gpu, segment[part]),
    }))
  );
}

async function* momentBytes(gpu: Gpu, moment: Tensor): AsyncGenerator<Uint8Array> {
  for (const piece of pieces(moment)) yield new Uint8Array((await gpu.readF32(piece)).buffer);
}

/** The step of the newest checkpoint, whole or not; 0 where there is none. */
export async function newestStep(folder: string): Promise<number> {
  const path = (await checkpoints(folder)).at(-1);
  return path === undefined ? 0 : stepOf(basename(path))!;
}

/** Complete checkpoints, oldest first. */
async function checkpoints(folder: string): Promise<string[]> {
  const step = (path: string) => stepOf(basename(path))!;
  return (await pathsIn(folder, /^step-\d+$/)).sort((a, b) => step(a) - step(b));
}

/** Paths of what is in a folder; none where there is no such folder. */
async function pathsIn(folder: string, pattern: RegExp): Promise<string[]> {
  return (await entryNames(folder)).filter((name) => pattern.test(name)).map((name) => join(folder, name));
}
