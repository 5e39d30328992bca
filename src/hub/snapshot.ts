/** A repository of the hub at a commit, and its cached files. */
import { dirname, join } from "node:path";
import { PRIVATE_FOLDER } from "../private_files.ts";
import { explain } from "./failures.ts";
import { fetcher } from "./_fetcher.ts";
import { type HubName, isPlainPath } from "./name.ts";
import type { HubOptions } from "./options.ts";

/** What the hub says of a file. */
export interface ListedFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of the content for large files, or git's own SHA-1 of the others; null where it is not known. */
  readonly hash: { readonly kind: "sha256" | "git"; readonly value: string } | null;
}

/** A repository at a commit, and the folder that its files are cached in. */
export interface Snapshot {
  readonly name: HubName;
  readonly commit: string;
  readonly folder: string;
  readonly files: readonly ListedFile[];
}

/** What each request to the hub has. */
interface Api {
  readonly hubUrl: string;
  readonly fetch: typeof fetch;
}

/**
 * The commit that a revision means and its files, both cached when they are first asked for.
 *
 * @throws {InputError} where the repository cannot be read
 */
export async function snapshotOf(
  options: HubOptions,
  name: HubName,
  signal?: AbortSignal,
): Promise<Snapshot> {
  const api = { hubUrl: options.endpoint, fetch: fetcher(options, signal) };
  const home = join(options.cache, `${name.type}s`, name.repository);
  try {
    const ref = join(home, "refs", encodeURIComponent(name.revision));
    const commit = /^[0-9a-f]{40}$/.test(name.revision)
      ? name.revision
      : await cached(ref, () => commitOf(api, name));
    const folder = join(home, commit);
    const list = async () => JSON.stringify(await filesOf(api, name, commit));
    return { name, commit, folder, files: JSON.parse(await cached(join(folder, ".files.json"), list)) };
  } catch (error) {
    throw signal?.aborted ? error : explain(error, options, name);
  }
}

async function commitOf(api: Api, { type, repository, revision }: HubName): Promise<string> {
  const hub = await import("@huggingface/hub");
  const request = { name: repository, revision, additionalFields: ["sha" as const], ...api };
  const { sha } = await (type === "model" ? hub.modelInfo(request) : hub.datasetInfo(request));
  if (/^[0-9a-f]{40}$/.test(sha)) return sha;
  throw new Error(`the hub gave ${JSON.stringify(sha)} as a commit`);
}

async function filesOf(api: Api, { type, repository }: HubName, commit: string): Promise<ListedFile[]> {
  const { listFiles } = await import("@huggingface/hub");
  const files: ListedFile[] = [];
  const request = { repo: { type, name: repository }, revision: commit, recursive: true, ...api };
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

/** Whether a file is there as a whole. */
export async function isCached(path: string, { size }: ListedFile): Promise<boolean> {
  try {
    return (await Deno.stat(path)).size === size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A cached text; where there is none it is made and cached. */
async function cached(path: string, make: () => Promise<string>): Promise<string> {
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
