/** Downloads one file of the hub. */
import { createHash } from "node:crypto";
import { dirname, join } from "node:path";
import { listening } from "../abort.ts";
import { logger } from "../log.ts";
import { PRIVATE_FILE, PRIVATE_FOLDER } from "../private_files.ts";
import { HttpError, isTransient, NetworkError, Refusal } from "./failures.ts";
import { fetcher } from "./_fetcher.ts";
import type { OnDownload } from "./hub.ts";
import type { HubOptions } from "./options.ts";
import { isCached, type ListedFile, type Snapshot } from "./snapshot.ts";

const log = logger("hub");

/** Tries in a row without a new byte after which a download fails. */
const MAX_TRIES = 4;
/** Milliseconds between two reports of a download. */
const REPORT_MS = 200;
/** Milliseconds between two tries at a file that another process downloads. */
const LOCK_MS = 200;
/** Milliseconds after which a silent connection is closed. */
const SILENCE_MS = 60_000;

/**
 * Writes `<path>.part` to its end, from where it stands, checks it and gives it its name.
 *
 * @param signal Ends the download
 * @throws the hub's refusal, what the disk or the network answers, or the signal's reason
 */
export async function download(
  options: HubOptions,
  snapshot: Snapshot,
  file: ListedFile,
  signal: AbortSignal,
  onDownload: OnDownload,
): Promise<void> {
  const path = join(snapshot.folder, file.path);
  const { repository } = snapshot.name;
  const { path: name, size } = file;
  log.info("Downloading {file} of {repository}: {size} bytes.", { file: name, repository, size });
  await Deno.mkdir(dirname(path), { recursive: true, mode: PRIVATE_FOLDER });
  const partial = `${path}.part`;
  using part = await openLocked(partial, signal);
  if (await isCached(path, file)) return; // another process has downloaded it
  const hash = file.hash === null ? null : createHash(file.hash.kind === "git" ? "sha1" : "sha256");
  if (file.hash?.kind === "git") hash?.update(`blob ${size}\0`);
  let bytes = 0;
  const take = (chunk: Uint8Array) => {
    hash?.update(chunk);
    bytes += chunk.length;
  };
  if ((await part.stat()).size > size) await part.truncate(0);
  const buffer = new Uint8Array(1 << 20);
  for (let read = await part.read(buffer); read !== null; read = await part.read(buffer)) {
    take(buffer.subarray(0, read));
  }

  let next = 0;
  const report = () => {
    if (performance.now() < next && bytes < size) return;
    next = performance.now() + REPORT_MS;
    onDownload({ file: `${repository}/${name}`, bytes, total_bytes: size });
  };
  report();
  for (let tries = 1; bytes < size;) {
    const before = bytes;
    try {
      for await (const chunk of content(options, snapshot, file, bytes, signal)) {
        for (let at = 0; at < chunk.length;) at += await part.write(chunk.subarray(at));
        take(chunk);
        report();
      }
      if (bytes < size) throw new TypeError("the connection ended too early");
    } catch (error) {
      // A new connection does not help against a refusal, a full disk or a stop.
      if (signal.aborted || !isTransient(error)) throw error;
      tries = bytes > before ? 1 : tries + 1;
      if (tries > MAX_TRIES) throw error;
      log.warning("{file} of {repository} goes on after: {error}", {
        file: name,
        repository,
        error: (error as Error).message,
      });
      await pause((options.retryMs ?? 1000) * 2 ** (tries - 1), signal);
    }
  }
  if (bytes !== size || (hash !== null && hash.digest("hex") !== file.hash?.value)) {
    await Deno.remove(partial);
    throw new Refusal(`came with other content than the hub's list says; it was removed, try again`);
  }
  await part.sync();
  await Deno.rename(partial, path);
  log.info("Downloaded {file} of {repository}.", { file: name, repository });
}

/** A file's bytes from a place on. */
async function* content(
  options: HubOptions,
  { name: { type, repository }, commit }: Snapshot,
  { path, size }: ListedFile,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const silent = new AbortController();
  const wait = () => setTimeout(() => silent.abort(new TypeError("the connection fell silent")), SILENCE_MS);
  let timer = wait();
  try {
    const folder = type === "model" ? "" : "datasets/";
    const name = path.split("/").map(encodeURIComponent).join("/");
    const url = `${options.endpoint}/${folder}${repository}/resolve/${commit}/${name}`;
    const headers: Record<string, string> = from === 0 ? {} : { range: `bytes=${from}-` };
    const response = await fetcher(options, AbortSignal.any([signal, silent.signal]))(url, { headers });
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
    await pause(LOCK_MS, signal);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await listening(signal, () => reject(signal.reason), promise).finally(() => clearTimeout(timer));
}
