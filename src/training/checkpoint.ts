import { basename, join } from "node:path";
import { InputError } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import type { ParameterSegment } from "../model/parameters.ts";
import { Checkpoint as Safetensors, writeSafetensors } from "../model/safetensors.ts";
import type { RunShape } from "./memory_plan.ts";
import type { Trainable } from "./trainable.ts";

/** What a run must remember beside its parameters; the data's position and random masks follow from the step. */
export interface RunState {
  /** Updates done. */
  readonly step: number;
  /** Tokens of all batches so far. */
  readonly num_tokens: number;
  /** How the run was laid out in memory: sums in another order would not come out the same, bit for bit. */
  readonly shape?: RunShape;
  /** Metrics summed since the last logged step. */
  readonly window: readonly number[];
  /** Gradient norm of the last update. */
  readonly grad_norm: number;
  /** Whether the last step's logging and evaluation are done. */
  readonly logged: boolean;
  /** Every metrics event so far, so that none is lost however the process ended. */
  readonly history: readonly { readonly step: number; readonly metrics: Readonly<Record<string, number>> }[];
}

const STATE = "trainer_state.json";
const OPTIMIZER = "optimizer.safetensors";
/** Older ones go: /score may still be reading the one before the newest. */
const KEPT = 2;

/**
 * Writes `step-NNNNNN/` under `folder`, whole or not at all: made under another name, flushed, renamed.
 */
export async function writeCheckpoint(
  gpu: Gpu,
  folder: string,
  trainable: Trainable,
  state: RunState,
): Promise<void> {
  const name = `step-${String(state.step).padStart(6, "0")}`;
  const aside = join(folder, `.${name}.partial`);
  await Deno.mkdir(folder, { recursive: true });
  await Deno.remove(aside, { recursive: true }).catch(ignoreMissing);
  await Deno.mkdir(aside);
  await trainable.save(aside);
  const moments = trainable.trained.segments.flatMap((segment, i) => [
    moment(gpu, `mean.${i}`, segment, "mean"),
    moment(gpu, `variance.${i}`, segment, "variance"),
  ]);
  await writeSafetensors(join(aside, OPTIMIZER), moments);
  await Deno.writeTextFile(join(aside, STATE), JSON.stringify(state));
  await flush(join(aside, STATE));
  await flush(aside);
  await Deno.remove(join(folder, name), { recursive: true }).catch(ignoreMissing);
  await Deno.rename(aside, join(folder, name));
  await flush(folder);
  const old = (await checkpoints(folder)).slice(0, -KEPT);
  // what an earlier process was killed over
  const begun = await pathsIn(folder, /^\.step-\d+\.partial$/);
  for (const path of [...old, ...begun]) await Deno.remove(path, { recursive: true });
}

/** The newest complete checkpoint's folder; null where there is none. */
export async function newestCheckpoint(folder: string): Promise<string | null> {
  return (await checkpoints(folder)).at(-1) ?? null;
}

/** Reads a checkpoint's state. @throws {InputError} where it was damaged */
export async function readRunState(checkpoint: string): Promise<RunState> {
  const text = await Deno.readTextFile(join(checkpoint, STATE));
  try {
    return JSON.parse(text);
  } catch {
    throw new InputError(`${STATE} of the checkpoint ${basename(checkpoint)} is not JSON.`, {
      field: STATE,
      accepted: "the file as the worker wrote it",
    });
  }
}

/** Uploads a checkpoint's AdamW moments. */
export async function restoreMoments(
  gpu: Gpu,
  checkpoint: string,
  segments: readonly ParameterSegment[],
): Promise<void> {
  using file = await Safetensors.openFile(join(checkpoint, OPTIMIZER));
  for (const [i, { mean, variance, count }] of segments.entries()) {
    for (const [name, tensor] of [[`mean.${i}`, mean], [`variance.${i}`, variance]] as const) {
      file.expect(name, [count]);
      for (let at = 0; at < count; at += PIECE) {
        gpu.write(tensor, await file.readRows(name, at, Math.min(PIECE, count - at)), at * 4);
        gpu.device.queue.submit([]);
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
  const stepOf = (path: string) => Number(basename(path).slice(5));
  return (await pathsIn(folder, /^step-\d+$/)).sort((a, b) => stepOf(a) - stepOf(b));
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
