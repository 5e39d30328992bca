/** Files of the Hugging Face hub, each downloaded once and cached. */
import { join } from "node:path";
import { SharedWork } from "../shared_work.ts";
import { explain } from "./failures.ts";
import type { HubName } from "./name.ts";
import type { HubOptions } from "./options.ts";
import { isCached, type ListedFile, type Snapshot, snapshotOf } from "./snapshot.ts";

/** How far a file has come. */
export interface DownloadProgress {
  /** `org/name/file`. */
  readonly file: string;
  readonly bytes: number;
  readonly total_bytes: number;
}

/** Called when a file's download begins, a few times a second, and when it is whole. */
export type OnDownload = (progress: DownloadProgress) => void;

/**
 * The hub behind a folder of cached files: `models/org/name/<commit>/…`, and beside the commits `refs/<revision>` with
 * the commit that a revision meant when it was first asked for. What is cached is not asked for again: remove the
 * reference to get a branch's newer commit.
 */
export class Hub {
  readonly #options: HubOptions;
  readonly #downloads = new SharedWork<void>();
  /** Listeners of downloads, by the path that a download goes to. */
  readonly #listeners = new Map<string, Set<OnDownload>>();

  /** Nothing is read or asked for yet. */
  constructor(options: HubOptions) {
    this.#options = options;
  }

  /**
   * Names of a repository's files, without any download but of the list itself.
   *
   * @throws {InputError} where the repository cannot be read
   */
  async list(name: HubName, signal?: AbortSignal): Promise<string[]> {
    return (await snapshotOf(this.#options, name, signal)).files.map(({ path }) => path);
  }

  /**
   * Brings the chosen files into the cache, going on where an earlier download stopped.
   *
   * @param choose From the repository's files those that are wanted
   * @param signal Ends the waiting; the download ends with it unless others wait for it too
   * @param onDownload Told of each file that is not there yet
   * @returns The folder that holds them under their own names
   * @throws {InputError} where the repository or a file cannot be read, or there is no room
   */
  async fetch(
    name: HubName,
    choose: (paths: string[]) => readonly string[],
    signal?: AbortSignal,
    onDownload?: OnDownload,
  ): Promise<string> {
    const snapshot = await snapshotOf(this.#options, name, signal);
    const chosen = new Set(choose(snapshot.files.map(({ path }) => path)));
    for (const file of snapshot.files) {
      if (chosen.has(file.path)) await this.#bring(snapshot, file, signal, onDownload);
    }
    return snapshot.folder;
  }

  /** Waits for a file, together with whoever else does. */
  async #bring(
    snapshot: Snapshot,
    file: ListedFile,
    signal?: AbortSignal,
    onDownload: OnDownload = () => {},
  ): Promise<void> {
    const path = join(snapshot.folder, file.path);
    if (await isCached(path, file)) return;
    const tell: OnDownload = (progress) => this.#listeners.get(path)?.forEach((told) => told(progress));
    const work = async (stop: AbortSignal) => {
      try {
        // Loaded by the first download: a worker that needs none starts sooner.
        const { download } = await import("./download.ts");
        await download(this.#options, snapshot, file, stop, tell);
      } catch (error) {
        throw stop.aborted ? error : explain(error, this.#options, snapshot.name, file.path);
      }
    };
    const listeners = this.#listeners.get(path) ?? new Set();
    this.#listeners.set(path, listeners.add(onDownload));
    try {
      await this.#downloads.run(path, work, signal);
    } finally {
      listeners.delete(onDownload);
      if (listeners.size === 0) this.#listeners.delete(path);
    }
  }
}
