/** Where a job's files lie under the state folder. */
import { basename, join } from "node:path";
import {
  entryNames,
  exists,
  flushFolder,
  ignoreMissing,
  readJsonObject,
  writeWhole,
} from "../model/_files.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { OPTIMIZER, stepOf } from "../training/checkpoint_files.ts";
import { TOKEN_MANIFEST, tokenFolder } from "../training/token_files.ts";
import { damageOf } from "./damage.ts";
import { type FileSources, resolveAdapterFolder } from "./files.ts";
import { conflict } from "./job.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";

const SETTINGS_FILE = "settings.json";

/** A job's own folder. @throws {TypeError} for an id that no job was given: its folder would be another's, or all of them */
export function jobFolder(state: string, id: string): string {
  if (!/^[\w-]+$/.test(id)) throw new TypeError(`${JSON.stringify(id)} is no job's id.`);
  return join(state, "jobs", id);
}

/** Writes down in a job's folder what it is run with, for those that cannot open the store beside a service. */
export async function writeJobSettings(state: string, id: string, settings: TrainingSettings): Promise<void> {
  await Deno.mkdir(jobFolder(state, id), { recursive: true, mode: PRIVATE_FOLDER });
  const text = new TextEncoder().encode(JSON.stringify(settings));
  await writeWhole(join(jobFolder(state, id), SETTINGS_FILE), [text]);
  for (const folder of [join(state, "jobs"), state]) await flushFolder(folder);
}

/** What a job is run with; null where there is no such job or it has not begun. */
export async function readJobSettings(state: string, id: string): Promise<TrainingSettings | null> {
  if (!isJobId(id)) return null;
  const path = join(jobFolder(state, id), SETTINGS_FILE);
  if (!await exists(path)) return null;
  return await readJsonObject(path) as unknown as TrainingSettings;
}

/** Is told of a job's folder that is damaged, and of what is used in its place. */
export type OnDamage = (id: string, message: string) => void;

/**
 * The folder of a finished job's PEFT files or full weights; its newest whole checkpoint where they are damaged; null where
 * there is none yet.
 *
 * @throws {InputError} with status 409 where the result is damaged and there is nothing in its place
 */
export async function jobResult(state: string, id: string, onDamage?: OnDamage): Promise<string | null> {
  const result = join(jobFolder(state, id), "result");
  if ((await entryNames(result)).length === 0) return null;
  const damage = await damageOf(result);
  if (damage === null) return result;
  const checkpoint = await newestWhole(state, id, onDamage);
  if (checkpoint === null) {
    const message = `The result of job ${id} is damaged, and it has no checkpoint: ${damage}`;
    throw conflict(message, "a job whose result is as it was written", id, []);
  }
  onDamage?.(id, `The result is damaged, so ${basename(checkpoint)} is used in its place: ${damage}`);
  return checkpoint;
}

/** The newest checkpoint whose files are as they were written; null where there is none. */
async function newestWhole(state: string, id: string, onDamage?: OnDamage): Promise<string | null> {
  for (let tries = 0; tries < 3; tries++) {
    const found = (await jobCheckpoints(state, id)).map(({ path }) => path);
    let gone = false;
    for (let path = found.pop(); path !== undefined; path = found.pop()) {
      const damage = await damageOf(path);
      if (damage === null) return path;
      gone ||= !await exists(path); // a newer one has replaced it meanwhile
      if (gone) break;
      onDamage?.(id, `The checkpoint ${basename(path)} is damaged and is passed over: ${damage}`);
    }
    if (!gone) break;
  }
  return null;
}

/**
 * What /score may use of a job: its result, or its newest checkpoint, each where it is as it was written; null where there
 * is neither.
 *
 * @throws {InputError} as {@link jobResult}
 */
export async function jobWeights(state: string, id: string, onDamage?: OnDamage): Promise<string | null> {
  return await jobResult(state, id, onDamage) ?? await newestWhole(state, id, onDamage);
}

/** Ids of the jobs that have a folder. */
export async function jobsWithFolders(state: string): Promise<string[]> {
  return (await entryNames(join(state, "jobs"))).filter(isJobId);
}

/** Whether a job has a checkpoint to go on from, be it damaged or not. */
export async function hasCheckpoint(state: string, id: string): Promise<boolean> {
  return (await jobCheckpoints(state, id)).length > 0;
}

/** Whether a job's rows have become tokens, in whole. */
export async function hasTokens(state: string, id: string): Promise<boolean> {
  return await exists(join(tokenFolder(jobFolder(state, id)), TOKEN_MANIFEST));
}

/** A job's whole checkpoints, oldest first. */
async function jobCheckpoints(state: string, id: string): Promise<{ step: number; path: string }[]> {
  const folder = join(jobFolder(state, id), "checkpoints");
  return (await entryNames(folder))
    .flatMap((name) => {
      const step = stepOf(name);
      return step === null ? [] : [{ step, path: join(folder, name) }];
    })
    .sort((a, b) => a.step - b.step);
}

/**
 * The folder of one of a job's checkpoints.
 *
 * @throws {InputError} with status 409 and the steps that are there, or where it is damaged
 */
export async function jobCheckpoint(
  state: string,
  id: string,
  step: number | "latest",
  onDamage?: OnDamage,
): Promise<string> {
  const latest = step === "latest" ? await newestWhole(state, id, onDamage) : null;
  if (latest !== null) return latest;
  const found = await jobCheckpoints(state, id);
  const wanted = step === "latest" ? found.at(-1) : found.find((each) => each.step === step);
  const damage = wanted && await damageOf(wanted.path);
  if (damage) {
    const message = `The checkpoint of step ${wanted.step} of job ${id} is damaged: ${damage}`;
    throw conflict(message, "a checkpoint that is as it was written", step, ["step"]);
  }
  if (wanted !== undefined) return wanted.path;
  const steps = found.map(({ step }) => step).join(", ");
  const sentence = found.length === 0
    ? `Job ${id} has no checkpoint yet.`
    : `Job ${id} has no checkpoint of step ${step}: there are ${steps}.`;
  const accepted = found.length === 0 ? "a job with a checkpoint" : `latest, or one of ${steps}`;
  throw conflict(sentence, accepted, step, ["step"]);
}

/**
 * Removes what only a run needs, of a job that runs no more: its tokens, the moments in its checkpoints, and what was half
 * written.
 */
export async function dropRunFiles(state: string, id: string): Promise<void> {
  await removeAny(tokenFolder(jobFolder(state, id)));
  const folder = join(jobFolder(state, id), "checkpoints");
  for (const name of await entryNames(folder)) {
    const path = join(folder, name);
    await removeAny(stepOf(name) === null ? path : join(path, OPTIMIZER));
  }
}

/** Removes what a write that failed has left: room that the next try needs. */
export async function dropHalfWritten(state: string, id: string): Promise<void> {
  const folder = jobFolder(state, id);
  await removeAny(join(folder, "result.partial"));
  if (!await hasTokens(state, id)) await removeAny(tokenFolder(folder));
  const checkpoints = join(folder, "checkpoints");
  for (const name of await entryNames(checkpoints)) {
    if (name.endsWith(".partial")) await removeAny(join(checkpoints, name));
  }
}

/** Removes a job's folder and all in it. */
export async function removeJobFolder(state: string, id: string): Promise<void> {
  await removeAny(jobFolder(state, id));
}

/**
 * Bytes of a job's files.
 *
 * @param over whether the job has succeeded: its tokens and the moments in its checkpoints are about to go
 */
export async function jobBytes(state: string, id: string, over: boolean): Promise<number> {
  const sizeOf = async (path: string): Promise<number> => {
    if (over && path === tokenFolder(jobFolder(state, id))) return 0;
    const found = await Deno.lstat(path).catch(() => null); // a checkpoint may be put away meanwhile
    if (!found?.isDirectory) return over && basename(path) === OPTIMIZER ? 0 : found?.size ?? 0;
    const sizes = await Promise.all((await entryNames(path)).map((name) => sizeOf(join(path, name))));
    return sizes.reduce((sum, size) => sum + size, 0);
  };
  return await sizeOf(jobFolder(state, id));
}

async function removeAny(path: string): Promise<void> {
  await Deno.remove(path, { recursive: true }).catch(ignoreMissing);
}

/**
 * The folder that an `adapter` means: a job's weights by the job's id, or a folder under the root or of the hub.
 *
 * @param isJob Whether there is a job with an id
 * @throws {InputError} with status 409 for a job without weights, or as `resolveAdapterFolder`
 */
export async function resolveAdapter(
  sources: FileSources & { readonly state: string; readonly onDamage?: OnDamage },
  adapter: string,
  isJob: (id: string) => boolean,
): Promise<string> {
  if (!isJobId(adapter) || !isJob(adapter)) return await resolveAdapterFolder(sources, adapter);
  const weights = await jobWeights(sources.state, adapter, sources.onDamage);
  if (weights !== null) return weights;
  throw conflict(
    `Job ${adapter} has neither a result nor a checkpoint yet.`,
    "a job with a result or a checkpoint, or an adapter's folder under the root",
    adapter,
    [],
  );
}

/** Whether a name has the form of a job's id. */
function isJobId(name: string): boolean {
  return /^job-[0-9a-f]{20}$/.test(name);
}

/** An id for a new job. */
export function newJobId(): string {
  return `job-${crypto.getRandomValues(new Uint8Array(10)).toHex()}`;
}

/** The id that a job with this content always has. */
export async function jobIdOf(content: string): Promise<string> {
  return `job-${(await sha256(content)).slice(0, 20)}`;
}

/** SHA-256 as 64 hexadecimal digits. */
export async function sha256(text: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))).toHex();
}
