/** Keeps the jobs' folders in order beside all else: measures, tidies and removes them, one after another. */
import { logger } from "../log.ts";
import type { StateDisk } from "./disk.ts";
import { dropRunFiles, jobBytes, jobsWithFolders, removeJobFolder } from "./folder.ts";
import { isFinished } from "./job.ts";
import { storageError } from "./storage.ts";
import type { JobStore } from "./store.ts";
import { Uses } from "./uses.ts";

const log = logger("jobs");

/** What the folders' work is done with. */
export interface FolderOptions {
  readonly store: JobStore;
  /** Absolute folder of the jobs' folders. */
  readonly state: string;
  readonly disk: StateDisk;
  /** Aborted when the worker stops: running jobs are queued again, and no further folder is removed. */
  readonly stopping: AbortSignal;
  /** Called where the disk does not take the work: {@link JobFolders.retry} does it once it does. */
  readonly onFault: () => void;
}

/** The folders of one state folder's jobs. */
export class JobFolders {
  /** Who reads which job's folder. */
  readonly uses = new Uses();
  /** Fulfilled when all work that was asked for is done. */
  done: Promise<void> = Promise.resolve();
  #hasFailed = false;

  constructor(private readonly options: FolderOptions) {}

  /** Removes the folders of deleted jobs that an earlier try has left. */
  removeDeleted(): void {
    for (const id of this.options.store.deleted()) this.remove(id);
  }

  /** Tidies the folders of jobs that have ended and that an earlier try has left. */
  tidyEnded(): void {
    for (const id of this.options.store.untidied()) this.tidy(id);
  }

  /** Does again what the disk has refused. */
  retry(): void {
    if (!this.#hasFailed) return;
    this.#hasFailed = false;
    this.removeDeleted();
    this.tidyEnded();
  }

  /** Records the size of a job's folder where it has changed. */
  async measure(id: string): Promise<void> {
    const { store, state } = this.options;
    store.recordBytes(id, await jobBytes(state, id, false));
  }

  /**
   * Measures the folder of a job that has ended; from that of one that has succeeded goes what only a run needs. After a
   * crash the next start does it.
   */
  tidy(id: string): void {
    const { store, state } = this.options;
    this.queue(async () => {
      const status = store.get(id)?.status ?? "queued";
      if (!isFinished(status)) return; // it was resumed or deleted meanwhile
      if (status === "succeeded") await dropRunFiles(state, id);
      await this.measure(id);
      store.recordTidied(id);
    });
  }

  /** Removes a deleted job's folder once nobody reads it; after a crash the next start does it. */
  remove(id: string): void {
    const { store, state, disk, stopping } = this.options;
    this.uses.whenFree(id, () => {
      if (stopping.aborted) return;
      this.queue(async () => {
        await removeJobFolder(state, id);
        store.forget(id);
        await disk.keepReserve();
      });
    });
  }

  /** Logs that there are folders of jobs that the data base does not know: they may have been lost with its log. */
  reportUnknown(): void {
    const { store, state } = this.options;
    this.queue(async () => {
      const unknown = (await jobsWithFolders(state)).filter((id) => store.numberOf(id) === undefined);
      const strangers = unknown.filter((id) => !store.deleted().includes(id));
      if (strangers.length === 0) return;
      log.error(
        "{count} folders in SIMPO_STATE/jobs, {id} among them, are of no job in jobs.sqlite: a part of it may be lost.",
        { count: strangers.length, id: strangers[0] },
      );
    });
  }

  /** Does some work after what was asked for before. */
  queue(work: () => Promise<void>): void {
    this.done = this.done.then(work).catch((error) => {
      log.error("A job's folder could not be tidied: {error}", { error });
      if (storageError(error) === null) return;
      this.#hasFailed = true;
      this.options.onFault();
    });
  }
}
