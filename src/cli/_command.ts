/** What the commands share. */
import { join } from "node:path";
import type { Config, DeviceChoice } from "../config.ts";
import type { Engine } from "../engine/protocol.ts";
import { InputError } from "../errors.ts";
import { withReserve } from "../jobs/disk.ts";
import { JobStore } from "../jobs/store.ts";
import { STOP_SIGNALS } from "../signals.ts";
import { PRIVATE_FOLDER } from "../private_files.ts";
import { refuse } from "./_refuse.ts";

/** Starts the Worker that owns the device. Handed to the commands, so that tests run them without one. */
export type StartEngine = (
  options: {
    readonly device: DeviceChoice;
    readonly allowSoftware: boolean;
    readonly memoryLimitBytes?: number;
    readonly tuningFolder?: string;
    readonly journalFolder?: string;
    readonly compileAhead?: boolean;
    readonly promptCacheBytes?: number | null;
    readonly trainShare?: number;
    readonly leaveThread?: boolean;
    readonly onBroken?: (error: Error) => void;
  },
) => Promise<Engine>;

/** The software driver works only where it was asked for: docs/software_driver.md. */
export function deviceOptions(
  { device, memoryBytes, cache, promptCacheBytes, trainShare }: Config,
): Omit<Parameters<StartEngine>[0], "onBroken"> {
  return {
    device,
    allowSoftware: device === "software",
    tuningFolder: join(cache, "tuning"),
    promptCacheBytes,
    trainShare,
    leaveThread: true,
    ...(memoryBytes !== null && { memoryLimitBytes: memoryBytes }),
  };
}

/** A file's text, without a byte order mark. @throws {Error} where it cannot be read, or is not UTF-8 */
export async function readUtf8(path: string): Promise<string> {
  const bytes = await Deno.readFile(path);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new Error("it is not UTF-8");
  }
}

/** The root must be there before anything is named relative to it. @throws InputError */
export async function checkRoot({ root }: Config): Promise<void> {
  const found = await Deno.stat(root).catch((error) => {
    if (error instanceof Deno.errors.NotCapable) throw error; // it may be there
    return null;
  });
  if (found?.isDirectory) return;
  const accepted = "a folder that is there";
  refuse("SIMPO_ROOT", root, accepted, `SIMPO_ROOT must be ${accepted}, not ${JSON.stringify(root)}.`);
}

/** Opens the jobs of the state folder, which is made where it is missing. @throws InputError where it cannot be used */
export async function openStore({ state }: Config): Promise<JobStore> {
  // A file that grows past the system's limit (`ulimit -f`) is then an error of its write, not the end of the process.
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGXFSZ", () => {});
  try {
    await Deno.mkdir(state, { recursive: true, mode: PRIVATE_FOLDER });
    return withReserve(state, () => new JobStore(join(state, "jobs.sqlite")));
  } catch (error) {
    if (error instanceof InputError) throw error;
    const accepted =
      "a folder that this process may write to, with jobs.sqlite as the worker left it or none";
    const why = (error as Error).message;
    const sentence = `SIMPO_STATE ${JSON.stringify(state)} cannot be used: ${why}. Give ${accepted}.`;
    return refuse("SIMPO_STATE", state, accepted, sentence);
  }
}

/**
 * Waits for SIGTERM or SIGINT, and listens to the end of the process: a signal that comes again, as where a terminal and
 * the launcher both hand on Ctrl-C, must not cut the stopping short.
 *
 * @returns the first signal's name
 */
export function stopSignal(): Promise<Deno.Signal> {
  const { promise, resolve } = Promise.withResolvers<Deno.Signal>();
  for (const signal of STOP_SIGNALS) Deno.addSignalListener(signal, () => resolve(signal));
  return promise;
}

/** Whether `work` ends within a time. Its failure counts as an end. */
export async function endsWithin(work: Promise<unknown>, ms: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => timer = setTimeout(() => resolve(false), ms));
  try {
    return await Promise.race([work.then(() => true, () => true), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** A shell's exit code for a process that a signal ended: a supervisor sees that the work is not done. */
export function exitCodeOf(signal: Deno.Signal): number {
  return signal === "SIGINT" ? 130 : 143;
}
