/** The disk under the state folder: whether it takes what jobs write, and how much room there is. */
import { join } from "node:path";
import { InputError } from "../errors.ts";
import { logger } from "../log.ts";
import { StorageError, storageError, systemWords } from "./storage.ts";

const log = logger("jobs");

/** How much of the disk jobs may take. */
export interface DiskLimits {
  /** Free bytes below which no job is taken or begun. */
  readonly minFreeBytes?: number;
  /** Bytes of all jobs at which no further one is taken; null: as many as there is room for. */
  readonly quotaBytes?: number | null;
}

/** What is written to see whether a write passes: more than is free where a disk is called full. */
const PROBE = new Uint8Array(1 << 16);

/** Nobody else's to read, as all in the folder. */
const OWN = { mode: 0o600 };

/** Kept aside where there is plenty: on a full disk it makes room for deleting what fills it. */
const RESERVE = "reserve";
const RESERVE_BYTES = 1 << 20;

/** Asks the disk of a state folder. Of another folder that has come to the same place it says that it is not the one. */
export class StateDisk {
  readonly #limits: Required<DiskLimits>;
  /** The data base's file as it was opened: SQLite goes on writing to one that nobody finds any more. */
  readonly #opened: Deno.FileInfo | null;
  #probing: Promise<StorageError | null> | null = null;
  #saidUnknown = false;

  /** @param state where `jobs.sqlite` lies, which is open */
  constructor(private readonly state: string, { minFreeBytes = 0, quotaBytes = null }: DiskLimits = {}) {
    this.#limits = { minFreeBytes, quotaBytes };
    this.#opened = statOrNull(join(state, "jobs.sqlite"));
  }

  /**
   * Why nothing that is written now would be found again: the folder has gone, has been replaced, or cannot be written to.
   * Null where it can, and where nothing but room is missing.
   */
  async fault(): Promise<StorageError | null> {
    const found = await this.#try();
    return found?.status === 507 ? null : found;
  }

  /** Why a job cannot be begun or go on now; null where it can. */
  async refusal(): Promise<StorageError | null> {
    const found = await this.#try();
    if (found !== null) return found;
    const { minFreeBytes } = this.#limits;
    const free = await this.freeBytes();
    if (free === null || free >= minFreeBytes) return null;
    return new StorageError(
      `${mebibytes(free)} MiB are free, and ${mebibytes(minFreeBytes)} are to stay free (SIMPO_MIN_FREE)`,
      true,
    );
  }

  /**
   * Refuses a new job for which there is no room.
   *
   * @param used bytes of all jobs
   * @throws {StorageError}
   */
  async check(used: number): Promise<void> {
    const found = await this.refusal();
    if (found !== null) throw found;
    const { quotaBytes } = this.#limits;
    if (quotaBytes === null || used < quotaBytes) return;
    const sizes = `${mebibytes(used)} MiB and may take ${mebibytes(quotaBytes)} (SIMPO_QUOTA)`;
    throw new InputError(`The jobs take ${sizes}: delete some with DELETE /train/{id}.`, {
      path: ["SIMPO_STATE"],
      accepted: "a job for which there is room",
      status: 507,
    });
  }

  /** Bytes that are free; null where the system does not tell. */
  async freeBytes(): Promise<number | null> {
    try {
      // Loaded by the first job: it takes 20 ms, and a score must not wait for it.
      const { statfs } = await import("node:fs/promises");
      const { bavail, bsize } = await statfs(this.state);
      return bavail * bsize;
    } catch (error) {
      if (!this.#saidUnknown && this.#limits.minFreeBytes > 0) {
        log.warn("SIMPO_MIN_FREE is not kept, as free room is not known: {error}", { error });
        this.#saidUnknown = true;
      }
      return null;
    }
  }

  /** Sets some room aside where none is. */
  async keepReserve(): Promise<void> {
    const path = join(this.state, RESERVE);
    if (statOrNull(path) !== null || (await this.freeBytes() ?? 0) < 8 * RESERVE_BYTES) return;
    const zeros = new Uint8Array(RESERVE_BYTES);
    await Deno.writeFile(path, zeros, OWN).catch(() => Deno.remove(path).catch(() => {}));
  }

  /** See {@link withReserve}. */
  withReserve<T>(change: () => T): T {
    return withReserve(this.state, change);
  }

  /** Returns once nothing is being tried. */
  async settled(): Promise<void> {
    await this.#probing;
  }

  /** A write as a try; of several that ask at one time there is one. */
  #try(): Promise<StorageError | null> {
    this.#probing ??= this.#probe().finally(() => this.#probing = null);
    return this.#probing;
  }

  async #probe(): Promise<StorageError | null> {
    const here = statOrNull(join(this.state, "jobs.sqlite"));
    if (this.#opened !== null && (here?.ino !== this.#opened.ino || here?.dev !== this.#opened.dev)) {
      const what = here === null ? "has gone" : "is another one than was opened";
      return new StorageError(`its jobs.sqlite ${what}; start the worker again`, false);
    }
    const path = join(this.state, ".probe");
    try {
      await Deno.writeFile(path, PROBE, OWN);
      return null;
    } catch (error) {
      const told = storageError(error) as StorageError | null;
      return told ?? new StorageError(systemWords((error as Error).message), false);
    } finally {
      await Deno.remove(path).catch(() => {});
    }
  }
}

/**
 * Makes a small change of the data base, if need be in the room that was set aside for it.
 *
 * @param state the folder of the data base
 * @throws what the change throws
 */
export function withReserve<T>(state: string, change: () => T): T {
  try {
    return change();
  } catch (error) {
    if (storageError(error)?.status !== 507) throw error;
    try {
      Deno.removeSync(join(state, RESERVE));
    } catch {
      throw error; // it has been given before
    }
    return change();
  }
}

function statOrNull(path: string): Deno.FileInfo | null {
  try {
    return Deno.statSync(path);
  } catch {
    return null;
  }
}

function mebibytes(bytes: number): number {
  return Math.floor(bytes / 2 ** 20);
}
