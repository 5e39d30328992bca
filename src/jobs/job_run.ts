/** Runs one job on the engine, from its rows and files to its end. */
import { join } from "node:path";
import type { Job, JobError } from "../api/job.ts";
import type { Dataset, Engine, TrainEvent, TrainRequest } from "../engine/protocol.ts";
import { DeviceLostError, InputError, Interrupted, within } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { modelReference } from "../hub/name.ts";
import { logger } from "../log.ts";
import { isAccepted, recordAcceptance } from "./accepted.ts";
import { boundedError } from "./bounds.ts";
import { type FileSources, resolveDataset, resolveModel } from "./files.ts";
import { hasCheckpoint, hasTokens, jobBytes, jobFolder, writeJobSettings } from "./folder.ts";
import type { DatasetSpec } from "./given_rows.ts";
import { resolveInitAdapter } from "./init_adapter.ts";
import type { FolderOptions, JobFolders } from "./job_folders.ts";
import { writeModelCard } from "./model_card.ts";
import { StorageError, storageError, systemWords } from "./storage.ts";

const log = logger("jobs");

/** What all runs of jobs share. */
export type RunContext = FileSources & Omit<FolderOptions, "onFault"> & {
  readonly folders: JobFolders;
  readonly engine: Engine;
};

/**
 * Runs a job until it has ended or is queued again.
 *
 * @param end ends the run
 * @param unrecorded gets the events that could not be written
 * @param onCheckpoint called at each checkpoint
 * @throws what is no fault of the job's: of the disk, or of the system
 */
export async function runJob(
  context: RunContext,
  job: Job,
  end: AbortController,
  unrecorded: TrainEvent[],
  onCheckpoint: () => void,
): Promise<void> {
  const { store, state, folders, engine } = context;
  const { id, settings } = job;
  const faults: unknown[] = [];
  const record = (event: TrainEvent) => {
    try {
      if (faults.length === 0) return store.record(id, event);
    } catch (error) {
      faults.push(error);
      end.abort(new Interrupted("stop")); // what it has learned is kept where that can be
    }
    unrecorded.push(event);
  };
  try {
    const request = await requestOf(context, job, end.signal);
    await writeJobSettings(state, id, settings);
    const { outcome, step, device_share = null } = await engine.call("train", request, {
      signal: end.signal,
      onLoading: (progress) => store.recordLoading(id, progress),
      onItem: (event) => {
        if (event.type === "plan") log.info("Job {id} is planned.", { id, plan: event.plan });
        record(event);
        if (event.type !== "checkpoint") return;
        onCheckpoint();
        recordAcceptance(state, id, false); // the checkpoint is of what was accepted
        folders.queue(() => folders.measure(id));
      },
    });
    if (faults.length > 0) throw faults[0];
    log.info("Job {id} {outcome} at step {step}.", { id, outcome, step, device_share });
    if (outcome === "stopped") return store.requeue(id);
    if (outcome === "succeeded") {
      const form = settings.lora === null ? "full" : "adapter";
      await writeModelCard(join(request.directory, "result"), store.find(id), form);
    }
    await folders.done; // an earlier measurement must not come after this one
    store.finish(id, outcome, null, await jobBytes(state, id, outcome === "succeeded"));
    folders.tidy(id);
  } catch (thrown) {
    await endFailed(context, id, faults.length > 0 ? faults[0] : thrown, end.signal);
  }
}

/** What the engine is asked for. @throws {InputError} where files are missing or may not be used */
async function requestOf(
  context: RunContext,
  { id, model, settings }: Job,
  signal: AbortSignal,
): Promise<TrainRequest> {
  const { store, state } = context;
  const { dataset, eval_dataset } = store.datasets(id);
  const directory = jobFolder(state, id);
  // A job that has a checkpoint goes on from it: what it began with may have gone since.
  const init = await hasCheckpoint(state, id) ? null : settings.lora?.init_adapter ?? null;
  const sources = {
    ...context,
    onDownload: (progress: DownloadProgress) => store.recordDownload(id, progress),
  };
  const rowsOf = (rows: DatasetSpec): Promise<Dataset> =>
    resolveDataset(sources, rows, signal).catch(async (error) => {
      // Rows that are tokens already are read no more: their files may have gone since.
      if (error instanceof InputError && await hasTokens(state, id)) return { paths: [] };
      throw error;
    });
  return {
    id,
    model: await within(["model"], () => resolveModel(sources, model, signal)),
    base: modelReference(model),
    dataset: await within(["dataset"], () => rowsOf(dataset)),
    eval_dataset: eval_dataset && await within(["eval_dataset"], () => rowsOf(eval_dataset)),
    settings,
    init_adapter: init === null ? null : await resolveInitAdapter(sources, init),
    directory,
    ...isAccepted(state, id) && { accept_changes: true },
  };
}

/** Fails a job by its own fault, and queues it again by the device's or the stop's. @throws what is neither */
async function endFailed(
  context: RunContext,
  id: string,
  error: unknown,
  signal: AbortSignal,
): Promise<void> {
  const { store, state, disk, folders, stopping } = context;
  if (error instanceof DeviceLostError) {
    log.error("Job {id} lost its device: {error}", { id, error });
    return store.crashed(id, jobError(error), error.charged);
  }
  // What breaks while the worker stops is the stop's doing; the job goes on from its checkpoint.
  if (stopping.aborted) return store.requeue(id);
  if (signal.aborted && error === signal.reason) return store.finish(id, "cancelled");
  // Nothing but the job's own fault fails it.
  const outside = storageError(error) ??
    (error instanceof InputError ? null : closedFile(error, state) ?? await disk.fault());
  if (outside !== null) throw outside;
  // The sender's mistake needs a sentence, ours a stack.
  const told = jobError(error);
  if (error instanceof InputError) log.info("Job {id} failed: {error}", { id, error: told.message });
  else log.error("Job {id} failed: {error}", { id, error });
  store.finish(id, "failed", told);
  folders.tidy(id);
}

/** A file of the jobs that may not be used any more: no job names one, so it is nobody's mistake. */
function closedFile(error: unknown, state: string): StorageError | null {
  const { message } = error as Error;
  const isOfState = message.includes(`'${join(state, "jobs")}`);
  return isOfState && /\(os error (1|5|13)\)/.test(message)
    ? new StorageError(systemWords(message), false)
    : null;
}

function jobError(error: unknown): JobError {
  if (error instanceof InputError) {
    const { value, accepted } = error.problem;
    return boundedError({ message: error.message, field: error.field, value, accepted });
  }
  return boundedError({ message: error instanceof Error ? error.message : String(error) });
}
