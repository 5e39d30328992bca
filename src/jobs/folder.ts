/** Where a job's files lie under the state folder. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { exists, readJsonObject, writeWhole } from "../model/_files.ts";
import type { TrainingSettings } from "../api/settings.ts";
import { type FileSources, resolveAdapterFolder } from "./files.ts";

const SETTINGS_FILE = "settings.json";

/** A job's own folder. */
export function jobFolder(state: string, id: string): string {
  return join(state, "jobs", id);
}

/** Writes down in a job's folder what it is run with, for those that cannot open the store beside a service. */
export async function writeJobSettings(state: string, id: string, settings: TrainingSettings): Promise<void> {
  await Deno.mkdir(jobFolder(state, id), { recursive: true });
  const text = new TextEncoder().encode(JSON.stringify(settings));
  await writeWhole(join(jobFolder(state, id), SETTINGS_FILE), [text]);
}

/** What a job is run with; null where there is no such job or it has not begun. */
export async function readJobSettings(state: string, id: string): Promise<TrainingSettings | null> {
  const path = join(jobFolder(state, id), SETTINGS_FILE);
  if (!isJobId(id) || !await exists(path)) return null;
  return await readJsonObject(path) as unknown as TrainingSettings;
}

/** The folder of a finished job's PEFT files or full weights; null where there is none yet. */
export async function jobResult(state: string, id: string): Promise<string | null> {
  const result = join(jobFolder(state, id), "result");
  return (await entries(result)).length > 0 ? result : null;
}

/** What /score may use of a job: its result, or its newest checkpoint; null where there is neither. */
export async function jobWeights(state: string, id: string): Promise<string | null> {
  const checkpoints = join(jobFolder(state, id), "checkpoints");
  const newest = (await entries(checkpoints))
    .flatMap((name) => {
      const step = /^step-(\d+)$/.exec(name)?.[1];
      return step === undefined ? [] : [{ name, step: Number(step) }];
    })
    .reduce<{ name: string; step: number } | null>(
      (best, each) => best && best.step > each.step ? best : each,
      null,
    );
  return await jobResult(state, id) ?? (newest === null ? null : join(checkpoints, newest.name));
}

/**
 * The folder that an `adapter` means: a job's weights by the job's id, or a folder under the root or of the hub.
 *
 * @param isJob Whether there is a job with an id
 * @throws InputError with status 409 for a job without weights, or as `resolveAdapterFolder`
 */
export async function resolveAdapter(
  sources: FileSources & { readonly state: string },
  adapter: string,
  isJob: (id: string) => boolean,
): Promise<string> {
  if (!isJobId(adapter) || !isJob(adapter)) return await resolveAdapterFolder(sources, adapter);
  const weights = await jobWeights(sources.state, adapter);
  if (weights !== null) return weights;
  throw new InputError(`Job ${adapter} has neither a result nor a checkpoint yet.`, {
    path: [],
    value: adapter,
    accepted: "a job with a result or a checkpoint, or an adapter's folder under the root",
    status: 409,
  });
}

/** Whether a name has the form of a job's id. */
function isJobId(name: string): boolean {
  return /^job-[0-9a-f]{20}$/.test(name);
}

/** An id for a new job. */
export function newJobId(): string {
  return `job-${hex(crypto.getRandomValues(new Uint8Array(10)))}`;
}

/** The id that a job with this content always has. */
export async function jobIdOf(content: string): Promise<string> {
  return `job-${(await sha256(content)).slice(0, 20)}`;
}

/** SHA-256 as 64 hexadecimal digits. */
export async function sha256(text: string): Promise<string> {
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text))));
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Names in a folder; none where there is no such folder. */
async function entries(folder: string): Promise<string[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder), ({ name }) => name);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
