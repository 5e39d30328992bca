/** A job's result as one archive. */
import { join } from "node:path";
import { InputError } from "../src/errors.ts";
import { resolveModel } from "../src/jobs/files.ts";
import { jobFolder, jobResult } from "../src/jobs/folder.ts";
import type { Job } from "../src/jobs/store.ts";
import { openTar, type TarArchive } from "../src/model/tar.ts";
import type { Service } from "./service_context.ts";

/** What an archive holds; see the route's description. */
export type ArchiveFormat = "adapter" | "merged" | "full" | undefined;

/** Makes the archives of a service's jobs. A merged model is written once and kept. */
export function archiveOf(
  { config, hub, exportMerged }: Service,
): (job: Job, format: ArchiveFormat) => Promise<TarArchive> {
  const merging = new Map<string, Promise<string>>();

  async function merge(job: Job, adapter: string): Promise<string> {
    const folder = join(jobFolder(config.state, job.id), "merged");
    if (await exists(folder)) return folder;
    const model = await resolveModel({ ...config, hub }, job.model, "model");
    const part = `${folder}.part`;
    await Deno.remove(part, { recursive: true }).catch(() => {});
    await exportMerged(model, adapter, part);
    await Deno.rename(part, folder);
    return folder;
  }

  return async (job, format) => {
    const refuse = (message: string, accepted: string): never => {
      throw new InputError(message, { field: "id", value: job.id, accepted, status: 409 });
    };
    const result = job.status === "succeeded" ? await jobResult(config.state, job.id) : null;
    if (result === null) {
      return refuse(`Job ${job.id} is ${job.status} and has no result.`, "a job that has succeeded");
    }
    const full = job.settings.lora === null;
    if (full && format === "adapter") {
      refuse(`Job ${job.id} trained the full weights and has no adapter.`, "format=full, or no format");
    }
    if (full || format === undefined || format === "adapter") return await pack(result);
    let merged = merging.get(job.id);
    if (merged === undefined) {
      merged = merge(job, result).finally(() => merging.delete(job.id));
      merging.set(job.id, merged);
    }
    return await pack(await merged);
  };
}

async function pack(folder: string): Promise<TarArchive> {
  const names = await Array.fromAsync(Deno.readDir(folder), ({ name, isFile }) => isFile ? name : null);
  return await openTar(
    names.filter((name) => name !== null).sort().map((name) => ({ name, path: join(folder, name) })),
  );
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
