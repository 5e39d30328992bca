/** Files of the Hugging Face hub, each downloaded once and kept. */
import { dirname, join } from "node:path";
import { logger } from "../log.ts";
import { SharedWork } from "../shared_work.ts";
import { explain, HttpError, isTransient, NetworkError, Refusal } from "./failures.ts";
import { type HubName, isPlainPath } from "./name.ts";
import type { HubOptions } from "./options.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";

const log = logger("hub");

/** How far a file has come. */
export interface DownloadProgress {
  /** `org/name/file`. */
  readonly file: string;
  readonly bytes: number;
  readonly total_bytes: number;
}

/** Called when a file's download begins, a few times a second, and when it is whole. */
export type OnDownload = (progress: DownloadProgress) => void;

/** What the hub says of a file. */
interface ListedFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the content for large files, or git's own SHA-1 of the others; null where it is not known. */
  readonly hash: { readonly kind: "sha256" | "git"; readonly value: string } | null;
}

/** A repository at a commit, and the folder that its files are kept in. */
interface Snapshot {
  readonly name: HubName;
  readonly commit: string;
  readonly folder: string;
  readonly files: readonly ListedFile[];
}

/** Tries in a row that bring nothing before a download is given up. */
const maxTries = 4;
/** Between two reports of a download. */
const reportMs = 200;
/** Between two tries at a file that another process downloads. */
const lockMs = 200;
/** A connection that is silent for so long is given up. */
const silenceMs = 60_000;

/**
 * The hub behind a folder of kept files: `models/org/name/<commit>/…`, and beside the commits `refs/<revision>` with
 * the commit that a revision meant when it was first asked for. What is kept is not asked for again: remove the
 * reference to get a branch's newer commit.
 */
export class Hub {
  readonly #options: HubOptions;
  readonly #downloads = new SharedWork<void>();
  /** Who is told of a download, by the path that it goes to. */
  readonly #listeners = new Map<string, Set<OnDownload>>();

  /** Nothing is read or asked for yet. */
  constructor(options: HubOptions) {
    this.#options = options;
  }

  /**
   * Names of a repository's files, without any download but of the list itself.
   *
   * @throws InputError where the repository cannot be read
   */
  async list(name: HubName, signal?: AbortSignal): Promise<string[]> {
    return (await this.#snapshot(name, signal)).files.map(({ path }) => path);
  }

  /**
   * Brings the chosen files into the cache, going on where an earlier download stopped.
   *
   * @param choose From the repository's files those that are wanted
   * @param signal Ends the waiting; the download ends with it unless others wait for it too
   * @param onDownload Told of each file that is not there yet
   * @returns The folder that holds them under their own names
   * @throws InputError where the repository or a file cannot be read, or there is no room
   */
  async fetch(
    name: HubName,
    choose: (paths: string[]) => readonly string[],
    signal?: AbortSignal,
    onDownload?: OnDownload,
  ): Promise<string> {
    const snapshot = await this.#snapshot(name, signal);
    const chosen = new Set(choose(snapshot.files.map(({ path }) => path)));
    for (const file of snapshot.files) {
      if (chosen.has(file.path)) await this.#bring(snapshot, file, signal, onDownload);
    }
    return snapshot.folder;
  }

  /** The commit that a revision means and its files, both written down when they are first asked for. */
  async #snapshot(name: HubName, signal?: AbortSignal): Promise<Snapshot> {
    const home = join(this.#options.cache, `${name.type}s`, name.repository);
    try {
      const ref = join(home, "refs", encodeURIComponent(name.revision));
      const commit = /^[0-9a-f]{40}$/.test(name.revision)
        ? name.revision
        : await kept(ref, () => this.#commit(name, signal));
      const folder = join(home, commit);
      const list = () => this.#list(name, commit, signal).then((files) => JSON.stringify(files));
      return { name, commit, folder, files: JSON.parse(await kept(join(folder, ".files.json"), list)) };
    } catch (error) {
      throw signal?.aborted ? error : explain(error, this.#options, name);
    }
  }

  async #commit({ type, repository, revision }: HubName, signal?: AbortSignal): Promise<string> {
    const hub = await import("@huggingface/hub");
    const request = { name: repository, revision, additionalFields: ["sha" as const], ...this.#api(signal) };
    const { sha } = await (type === "model" ? hub.modelInfo(request) : hub.datasetInfo(request));
    if (/^[0-9a-f]{40}$/.test(sha)) return sha;
    throw new Error(`the hub gave ${JSON.stringify(sha)} as a commit`);
  }

  async #list({ type, repository }: HubName, commit: string, signal?: AbortSignal): Promise<ListedFile[]> {
    const { listFiles } = await import("@huggingface/hub");
    const files: ListedFile[] = [];
    const request = {
      repo: { type, name: repository },
      revision: commit,
      recursive: true,
      ...this.#api(signal),
    };
    for await (const { type, path, size, oid, lfs } of listFiles(request)) {
      if (type !== "file" || !isPlainPath(path)) continue;
      const sha256 = lfs?.oid.replace(/^sha256:/, "");
      const hash = sha256 !== undefined
        ? { kind: "sha256" as const, value: sha256 }
        : /^[0-9a-f]{40}$/.test(oid ?? "")
        ? { kind: "git" as const, value: oid! }
        : null;
      files.push({ path, size: lfs?.size ?? size, hash });
    }
    return files;
  }

  #api(signal?: AbortSignal) {
    return { hubUrl: this.#options.endpoint, fetch: this.#fetcher(signal) };
  }

  /** `fetch` with the token, which goes to the endpoint only: a redirect to another host drops it. */
  #fetcher(signal: AbortSignal | undefined): typeof fetch {
    const { token } = this.#options;
    return (url, init) => {
      const headers = new Headers(init?.headers);
      if (token !== null) headers.set("authorization", `Bearer ${token}`);
      return fetch(url, { ...init, headers, ...(signal === undefined ? {} : { signal }) });
    };
  }

  /** Waits for a file, together with whoever else does. */
  async #bring(
    snapshot: Snapshot,
    file: ListedFile,
    signal?: AbortSignal,
    onDownload: OnDownload = () => {},
  ): Promise<void> {
    const path = join(snapshot.folder, file.path);
    if (await sizeOf(path) === file.size) return;
    const download = (stop: AbortSignal) =>
      this.#download(snapshot, file, path, stop)
        .catch((error) => {
          throw stop.aborted ? error : explain(error, this.#options, snapshot.name, file.path);
        });
    const listeners = this.#listeners.get(path) ?? new Set();
    this.#listeners.set(path, listeners.add(onDownload));
    try {
      await this.#downloads.run(path, download, signal);
    } finally {
      listeners.delete(onDownload);
      if (listeners.size === 0) this.#listeners.delete(path);
    }
  }

  /** Writes `<path>.part` to its end, from where it stands, checks it and gives it its name. */
  async #download(snapshot: Snapshot, file: ListedFile, path: string, signal: AbortSignal): Promise<void> {
    const { repository } = snapshot.name;
    log.info("Downloading {file} of {repository}: {size} bytes.", {
      file: file.path,
      repository,
      size: file.size,
    });
    await Deno.mkdir(dirname(path), { recursive: true, mode: PRIVATE_FOLDER });
    const partial = `${path}.part`;
    using part = await openLocked(partial, signal);
    if (await sizeOf(path) === file.size) return;
    // Loaded by the first download: a worker that needs none starts 20 ms sooner.
    const { createHash } = await import("node:crypto");
    const hash = file.hash === null ? null : createHash(file.hash.kind === "git" ? "sha1" : "sha256");
    if (file.hash?.kind === "git") hash?.update(`blob ${file.size}\0`);
    let bytes = 0;
    const take = (chunk: Uint8Array) => {
      hash?.update(chunk);
      bytes += chunk.length;
    };
    if ((await part.stat()).size > file.size) await part.truncate(0);
    const buffer = new Uint8Array(1 << 20);
    for (let read = await part.read(buffer); read !== null; read = await part.read(buffer)) {
      take(buffer.subarray(0, read));
    }

    let next = 0;
    const report = () => {
      if (performance.now() < next && bytes < file.size) return;
      next = performance.now() + reportMs;
      const progress = { file: `${repository}/${file.path}`, bytes, total_bytes: file.size };
      this.#listeners.get(path)?.forEach((listener) => listener(progress));
    };
    report();
    for (let tries = 1; bytes < file.size;) {
      const before = bytes;
      try {
        for await (const chunk of this.#content(snapshot, file, bytes, signal)) {
          for (let at = 0; at < chunk.length;) at += await part.write(chunk.subarray(at));
          take(chunk);
          report();
        }
        if (bytes < file.size) throw new TypeError("the connection ended too early");
      } catch (error) {
        // A new connection does not help against a refusal, a full disk or a stop.
        if (signal.aborted || !isTransient(error)) throw error;
        tries = bytes > before ? 1 : tries + 1;
        if (tries > maxTries) throw error;
        log.warning("{file} of {repository} goes on after: {error}", {
          file: file.path,
          repository,
          error: (error as Error).message,
        });
        await pause((this.#options.retryMs ?? 1000) * 2 ** (tries - 1), signal);
      }
    }
    if (bytes !== file.size || (hash !== null && hash.digest("hex") !== file.hash?.value)) {
      await Deno.remove(partial);
      throw new Refusal(`came with other content than the hub's list says; it was removed, try again`);
    }
    await part.sync();
    await Deno.rename(partial, path);
    log.info("Downloaded {file} of {repository}.", { file: file.path, repository });
  }

  /** A file's bytes from a place on. */
  async *#content(
    { name: { type, repository }, commit }: Snapshot,
    { path, size }: ListedFile,
    from: number,
    signal: AbortSignal,
  ): AsyncGenerator<Uint8Array> {
    const silent = new AbortController();
    const wait = () => setTimeout(() => silent.abort(new TypeError("the connection fell silent")), silenceMs);
    let timer = wait();
    try {
      const folder = type === "model" ? "" : "datasets/";
      const name = path.split("/").map(encodeURIComponent).join("/");
      const url = `${this.#options.endpoint}/${folder}${repository}/resolve/${commit}/${name}`;
      const headers: Record<string, string> = from === 0 ? {} : { range: `bytes=${from}-` };
      const response = await this.#fetcher(AbortSignal.any([signal, silent.signal]))(url, { headers });
      if (!response.ok) {
        await response.body?.cancel();
        throw new HttpError(response.status);
      }
      // Without its range a server sends everything: what is there already is passed over.
      let skip = response.status === 206 ? 0 : from;
      if (response.status === 206 && !response.headers.get("content-range")?.startsWith(`bytes ${from}-`)) {
        await response.body?.cancel();
        throw new Refusal("came as another range than was asked for");
      }
      let left = size - from;
      for await (const chunk of response.body ?? []) {
        clearTimeout(timer);
        timer = wait();
        const wanted = chunk.subarray(Math.min(skip, chunk.length));
        skip -= chunk.length - wanted.length;
        left -= wanted.length;
        if (left < 0) throw new Refusal("is longer than the hub's list says");
        if (wanted.length > 0) yield wanted;
      }
    } catch (error) {
      if (signal.aborted || error instanceof HttpError || error instanceof Refusal) throw error;
      if (error instanceof Deno.errors.NotCapable) throw error; // a host that is not permitted stays so
      throw new NetworkError((error as Error).message, { cause: error });
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * Opens a file that no other process has open by this: several may use the same cache. The lock goes with the file.
 *
 * @throws the signal's reason
 */
async function openLocked(path: string, signal: AbortSignal): Promise<Deno.FsFile> {
  for (;;) {
    const file = await Deno.open(path, { read: true, write: true, create: true, mode: PRIVATE_FILE });
    if (await file.tryLock(true)) return file;
    // Whoever has it may give it another name: the next try is at what the path means then.
    file.close();
    await pause(lockMs, signal);
  }
}

/** A text file, or what is to be kept in it where there is none. */
async function kept(path: string, make: () => Promise<string>): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  const text = await make();
  await Deno.mkdir(dirname(path), { recursive: true, mode: PRIVATE_FOLDER });
  const aside = await Deno.makeTempFile({ dir: dirname(path), prefix: ".new-" });
  await Deno.writeTextFile(aside, text);
  await Deno.rename(aside, path);
  return text;
}

/** Bytes of a file; null where there is none. */
async function sizeOf(path: string): Promise<number | null> {
  try {
    return (await Deno.stat(path)).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  const onAbort = () => reject(signal.reason);
  signal.addEventListener("abort", onAbort);
  try {
    signal.throwIfAborted();
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", onAbort);
  }
}
