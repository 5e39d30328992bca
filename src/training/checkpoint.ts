import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import { readJsonObject } from "../model/_files.ts";
import type { ParameterSegment } from "../model/parameters.ts";
import { Checkpoint as Safetensors, writeSafetensors } from "../model/safetensors.ts";
import { checkpointName, OPTIMIZER, STATE, stepOf } from "./checkpoint_files.ts";
import type { RunShape } from "./memory_plan.ts";
import type { Trainable } from "./trainable.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";

/** What a run must remember beside its parameters; the data's position and random masks follow from the step. */
export interface RunState {
  /** Updates done. */
  readonly step: number;
  /** Tokens of all examples so far. */
  readonly num_tokens: number;
  /** How the run was laid out in memory: sums in another order would not come out the same, bit for bit. */
  readonly shape?: RunShape;
  /** Metrics summed since the last logged step. */
  readonly window: readonly number[];
  /** Tokens of the steps since the last logged one, and what their micro-batches had room for. */
  readonly filled: { readonly tokens: number; readonly room: number };
  /** Gradient norm of the last update. */
  readonly grad_norm: number;
  /** Whether the last step's logging and evaluation are done. */
  readonly logged: boolean;
  /** Every metrics event so far, so that none is lost however the process ended. */
  readonly history: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[];
}

/**
 * Writes `step-NNNNNN/` under `folder`, whole or not at all: made under another name, flushed, renamed.
 *
 * @param keep how many of the newest stay
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
  await trainable.save(aside);
  const moments = trainable.trained.segments.flatMap((segment, i) => [
    moment(gpu, `mean.${i}`, segment, "mean"),
    moment(gpu, `variance.${i}`, segment, "variance"),
  ]);
  await writeSafetensors(join(aside, OPTIMIZER), moments);
  await Deno.writeTextFile(join(aside, STATE), JSON.stringify(state), { mode: PRIVATE_FILE });
  await flush(join(aside, STATE));
  await flush(aside);
  await Deno.remove(join(folder, name), { recursive: true }).catch(ignoreMissing);
  await Deno.rename(aside, join(folder, name));
  await flush(folder);
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
 * The newest checkpoint whose files are whole; null where there is none at all. A damaged one with an older behind it is
 * put aside as `step-NNNNNN.damaged`, so that nobody takes it for the newest.
 *
 * @param files what `Trainable.save` writes, by name
 * @param warn is told of each that is put aside, and why
 * @throws {InputError} where the oldest is damaged too
 */
export async function findCheckpoint(
  folder: string,
  files: readonly string[],
  warn: (message: string) => void,
): Promise<FoundCheckpoint | null> {
  const found = await checkpoints(folder);
  for (let path = found.pop(); path !== undefined; path = found.pop()) {
    try {
      for (const name of [OPTIMIZER, ...files]) await checkFile(join(path, name));
      return { path, state: await readRunState(path) };
    } catch (error) {
      const older = found.at(-1);
      if (!(error instanceof InputError) || older === undefined) throw error;
      await Deno.remove(`${path}.damaged`, { recursive: true }).catch(ignoreMissing);
      await Deno.rename(path, `${path}.damaged`);
      const names = [path, older].map((path) => basename(path));
      warn(`The checkpoint ${names[0]} is damaged, so the run goes on from ${names[1]}: ${error.message}`);
    }
  }
  return null;
}

/** Looks at a file as far as its header says whether it is whole. @throws {InputError} where it is not */
async function checkFile(path: string): Promise<void> {
  if (path.endsWith(".json")) await readJsonObject(path);
  else (await Safetensors.openFile(path)).close();
}

/** Reads a checkpoint's state. @throws {InputError} where it was damaged */
export async function readRunState(checkpoint: string): Promise<RunState> {
  const state = await readJsonObject(join(checkpoint, STATE));
  if (
    Number.isSafeInteger(state["step"]) && Array.isArray(state["window"]) && Array.isArray(state["history"])
  ) {
    return state as unknown as RunState;
  }
  throw new InputError(
    (file) => `${file} of the checkpoint ${basename(checkpoint)} is not as the worker wrote it.`,
    {
      path: [{ file: STATE }],
      accepted: "the file as the worker wrote it",
    },
  );
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

function moment(gpu: Gpu, name: string, segment: ParameterSegment, part: "mean" | "variance") {
  const { count } = segment;
  async function* bytes(): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < count; at += PIECE) {
      const piece = { ...segment[part], offset: at * 4, bytes: Math.min(PIECE, count - at) * 4 };
      yield new Uint8Array((await gpu.readF32(piece)).buffer);
    }
  }
  return { name, dtype: "F32" as const, shape: [count], data: bytes() };
}

/** Complete checkpoints, oldest first. */
async function checkpoints(folder: string): Promise<string[]> {
  const step = (path: string) => stepOf(basename(path))!;
  return (await pathsIn(folder, /^step-\d+$/)).sort((a, b) => step(a) - step(b));
}

/** Paths of what is in a folder; none where there is no such folder. */
async function pathsIn(folder: string, pattern: RegExp): Promise<string[]> {
  const paths: string[] = [];
  try {
    for await (const { name } of Deno.readDir(folder)) if (pattern.test(name)) paths.push(join(folder, name));
  } catch (error) {
    ignoreMissing(error);
  }
  return paths;
}

async function flush(path: string): Promise<void> {
  using file = await Deno.open(path);
  await file.sync();
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
