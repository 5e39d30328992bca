/** A job's result as one archive. */
import { basename, join } from "node:path";
import { within } from "../src/errors.ts";
import { damageOf } from "../src/jobs/damage.ts";
import { resolveModel } from "../src/jobs/files.ts";
import { jobCheckpoint, jobFolder, jobResult, type OnDamage } from "../src/jobs/folder.ts";
import { conflict } from "../src/jobs/job.ts";
import { writeModelCard } from "../src/jobs/model_card.ts";
import { storageError } from "../src/jobs/storage.ts";
import type { Job } from "../src/api/job.ts";
import { savedAs } from "../src/model/dtype.ts";
import { openFolderAsTar, type TarArchive } from "../src/model/tar.ts";
import { SharedWork } from "../src/shared_work.ts";
import { MANIFEST, OPTIMIZER, STATE } from "../src/training/checkpoint_files.ts";
import { refuseWhenStopping, type Service } from "./service_context.ts";

/** What an archive holds; see the route's description. */
export interface ArchiveOptions {
  readonly format: "adapter" | "merged" | "full" | undefined;
  readonly step: number | "latest" | undefined;
}

/** Makes the archives of a service's jobs, while `signal` lets them. A merged model is written once and kept. */
export function archiveOf(
  service: Service,
): (job: Job, options: ArchiveOptions, signal: AbortSignal) => Promise<TarArchive> {
  const { config, hub, runner, store, stopping, exportMerged } = service;
  const onDamage: OnDamage = (id, message) => store.warn(id, message);
  const merging = new SharedWork<string>();

  async function merge(job: Job, adapter: string, folder: string, signal: AbortSignal): Promise<string> {
    using _ = runner.uses.hold(job.id); // who waited for it may leave before it has ended
    if (await exists(folder)) {
      const damage = await damageOf(folder);
      if (damage === null) return folder;
      onDamage(job.id, `The merged model is damaged and is made anew: ${damage}`);
      await Deno.remove(folder, { recursive: true });
    }
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
      throw storageError(error) ?? error;
    }
    await runner.measure(job.id).catch(() => {}); // what a full disk does not take is no reason to refuse it
    return folder;
  }

  async function make(job: Job, { format, step }: ArchiveOptions, signal: AbortSignal): Promise<TarArchive> {
    const refuse = (message: string, accepted: string): never => {
      throw conflict(message, accepted, job.id);
    };
    const result = step !== undefined
      ? await jobCheckpoint(config.state, job.id, step, onDamage)
      : job.status === "succeeded"
      ? await jobResult(config.state, job.id, onDamage)
      : null;
    if (result === null) {
      return refuse(
        `Job ${job.id} is ${job.status} and has no result.`,
        "a job that has succeeded, or step=latest for its newest checkpoint",
      );
    }
    const full = job.settings.lora === null;
    if (full && format === "adapter") {
      refuse(`Job ${job.id} trained the full weights and has no adapter.`, "format=full, or no format");
    }
    if (full || format === undefined || format === "adapter") return await pack(result);
    const name = step === undefined ? "merged" : `merged-${basename(result)}`;
    const folder = join(jobFolder(config.state, job.id), name);
    return await pack(await merging.run(folder, (stop) => merge(job, result, folder, stop), signal));
  }

  return async (job, options, signal) => {
    using _ = runner.uses.hold(job.id);
    const archive = await make(job, options, signal);
    return {
      ...archive,
      stream: (...range) => holding(() => runner.uses.hold(job.id), archive.stream(...range)),
    };
  };
}

/** A stream for whose reading something is held, from its first piece to its end. */
function holding<T>(hold: () => Disposable, stream: ReadableStream<T>): ReadableStream<T> {
  const reader = stream.getReader();
  let held: Disposable | null = null;
  return new ReadableStream({
    async pull(controller) {
      held ??= hold();
      try {
        const { done, value } = await reader.read();
        if (!done) return controller.enqueue(value);
        controller.close();
      } catch (error) {
        controller.error(error);
      }
      held[Symbol.dispose]();
    },
    async cancel(reason) {
      held?.[Symbol.dispose]();
      await reader.cancel(reason);
    },
  }, { highWaterMark: 0 });
}

/** What was learned, without what only a run needs. */
async function pack(folder: string): Promise<TarArchive> {
  return await openFolderAsTar(folder, [MANIFEST, STATE, OPTIMIZER]);
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}
