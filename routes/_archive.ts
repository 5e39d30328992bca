/** A job's result as one archive. */
import { join } from "node:path";
import { InputError, within } from "../src/errors.ts";
import { resolveModel } from "../src/jobs/files.ts";
import { jobFolder, jobResult } from "../src/jobs/folder.ts";
import { writeModelCard } from "../src/jobs/model_card.ts";
import type { Job } from "../src/api/job.ts";
import { savedAs } from "../src/model/dtype.ts";
import { openFolderAsTar, type TarArchive } from "../src/model/tar.ts";
import { SharedWork } from "../src/shared_work.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

/** What an archive holds; see the route's description. */
export type ArchiveFormat = "adapter" | "merged" | "full" | undefined;

/** Makes the archives of a service's jobs, while `signal` lets them. A merged model is written once and kept. */
export function archiveOf(
  service: Service,
): (job: Job, format: ArchiveFormat, signal: AbortSignal) => Promise<TarArchive> {
  const { config, hub, stopping, exportMerged } = service;
  const merging = new SharedWork<string>();

  async function merge(job: Job, adapter: string, signal: AbortSignal): Promise<string> {
    const folder = join(jobFolder(config.state, job.id), "merged");
    if (await exists(folder)) return folder;
    const model = await within(["model"], () => resolveModel({ ...config, hub }, job.model));
    const part = `${folder}.part`;
    await Deno.remove(part, { recursive: true }).catch(() => {});
    try {
      const dtype = savedAs(job.settings.save_dtype);
      await exportMerged(model, adapter, part, AbortSignal.any([signal, stopping]), dtype);
      await writeModelCard(part, job, "merged");
      await Deno.rename(part, folder);
    } catch (error) {
      await Deno.remove(part, { recursive: true }).catch(() => {});
      refuseWhenStopping(service);
      throw error;
    }
    return folder;
  }

  return async (job, format, signal) => {
    const refuse = (message: string, accepted: string): never => {
      throw new InputError(message, { path: ["id"], value: job.id, accepted, status: 409 });
    };
    const result = job.status === "succeeded" ? await jobResult(config.state, job.id) : null;
    if (result === null) {
      return refuse(`Job ${job.id} is ${job.status} and has no result.`, "a job that has succeeded");
    }
    const full = job.settings.lora === null;
    if (full && format === "adapter") {
      refuse(`Job ${job.id} trained the full weights and has no adapter.`, "format=full, or no format");
    }
    if (full || format === undefined || format === "adapter") return await openFolderAsTar(result);
    return await openFolderAsTar(await merging.run(job.id, (stop) => merge(job, result, stop), signal));
  };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
