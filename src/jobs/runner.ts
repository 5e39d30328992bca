/** Trains the queued jobs, as many at a time as the engine has slots for. */
import { join } from "node:path";
import type { Job, JobError } from "../api/job.ts";
import type { Dataset, Engine, TrainEvent } from "../engine/protocol.ts";
import { DeviceLostError, InputError, Interrupted, within } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { logger } from "../log.ts";
import { type FileSources, resolveDataset, resolveModel } from "./files.ts";
import type { DatasetSpec } from "./given_rows.ts";
import { modelReference } from "../hub/name.ts";
import { isAccepted, recordAcceptance } from "./accepted.ts";
import { boundedError } from "./bounds.ts";
import { type DiskLimits, StateDisk } from "./disk.ts";
import {
  dropHalfWritten,
  dropRunFiles,
  hasCheckpoint,
  hasTokens,
  jobBytes,
  jobFolder,
  jobsWithFolders,
  removeJobFolder,
  writeJobSettings,
} from "./folder.ts";
import { isFinished } from "./job.ts";
import { writeModelCard } from "./model_card.ts";
import { StorageError, storageError, systemWords } from "./storage.ts";
import { type JobStore, notKept } from "./store.ts";
import { Uses } from "./uses.ts";
import { WaitingJobs } from "./waiting.ts";

const log = logger("jobs");

/** Where the runner finds what it needs. */
export interface RunnerOptions extends FileSources {
  readonly store: JobStore;
  /** Absolute folder of the jobs' folders. */
  readonly state: string;
  /** Jobs wait until it is there; where it cannot be had they stay queued. */
  readonly engine: Promise<Engine>;
  readonly limits?: DiskLimits;
  /** Milliseconds between two looks at a disk that jobs wait for. */
  readonly pollMs?: number;
  /** Whether jobs that ran as an earlier process ended may be why; they may unless given. */
  readonly jobsCharged?: boolean;
}

/** Milliseconds between two looks at the disk. */
const POLL_MS = 2000;

/** A life of the queue: from the start of the process to its stop. */
export class JobRunner {
  readonly #options: RunnerOptions;
  readonly #pollMs: number;
  /** What ends each running job, and when it has ended. */
  readonly #running = new Map<string, { readonly end: AbortController; readonly ended: Promise<void> }>();
  /** Who reads which job's folder. */
  readonly uses = new Uses();
  readonly disk: StateDisk;
  readonly #waiting = new WaitingJobs();
  #looking: ReturnType<typeof setTimeout> | null = null;
  /** Why no job is begun, as it was said last. */
  #held: string | null = null;
  /** Whether the jobs that wait are left where they are: one alone is run. */
  #alone = false;
  /** Told when the disk takes writes again and the jobs that can go on do. */
  #looked = Promise.withResolvers<void>();
  /** Work on the jobs' folders beside all else, one thing after another. */
  #tidying: Promise<void> = Promise.resolve();
  /** Whether that is to be done again when the disk takes writes. */
  #leftUntidied = false;
  #stopping = false;

  /** Nothing runs until `start` or `runToEnd`. */
  constructor(options: RunnerOptions) {
    this.#options = options;
    this.#pollMs = options.pollMs ?? POLL_MS;
    this.disk = new StateDisk(options.state, options.limits);
  }

  /** Takes up what an earlier process left: folders to be tidied, jobs that ran; then works through the queue. */
  start(): void {
    const { store, jobsCharged } = this.#options;
    const parts = [
      () => store.recover(jobsCharged),
      () => store.waiting().forEach((id) => this.#waiting.addFound(id)),
      () => store.deleted().forEach((id) => this.#removeFolder(id)),
      () => store.untidied().forEach((id) => this.#tidy(id)),
      () => this.#inBackground(() => this.#nameStrangers()),
    ];
    for (const part of parts) {
      try {
        part();
      } catch (error) {
        // What is damaged keeps nothing else from being served.
        log.error("Something of an earlier life could not be taken up: {error}", { error });
      }
    }
    if (this.#waiting.size > 0) this.#goOn().catch((error) => this.#look(error));
    else this.wake();
  }

  /** Looks for work; called whenever a job is put into the queue. */
  wake(): void {
    this.#fillSlots().catch((error) => this.#look(error));
  }

  /** Runs one job, which must be queued, and nothing else; where there is no room for it, it waits. */
  async runToEnd(id: string): Promise<Job> {
    this.#alone = true;
    for (;;) {
      const engine = await this.#options.engine;
      const refused = await this.disk.refusal();
      if (refused === null) await this.#take(this.#job(id), engine);
      else await this.#putDown(id, refused, []);
      await this.#tidying;
      if (!this.#waiting.has(id)) return this.#job(id);
      while (this.#waiting.has(id)) await this.#looked.promise;
    }
  }

  /**
   * Ends a job: at once where it waits, after the current micro-batch where it trains.
   *
   * @throws InputError with status 409 where the job has ended otherwise
   */
  cancel(id: string): Job {
    const { store } = this.#options;
    const job = this.#job(id);
    if (job.status === "cancelled") return job;
    if (isFinished(job.status)) {
      throw new InputError(`Job ${id} has ${job.status} and cannot be cancelled.`, {
        path: ["id"],
        value: id,
        accepted: "a job that has not ended",
        status: 409,
      });
    }
    if (job.status === "queued" || job.status === "waiting_for_space") {
      this.disk.withReserve(() => store.finish(id, "cancelled"));
      this.#waiting.delete(id);
    } else {
      this.disk.withReserve(() => store.requestCancel(id));
      this.#running.get(id)?.end.abort(new Interrupted("cancel"));
    }
    return this.#job(id);
  }

  /**
   * Puts a job that was cancelled or has failed back into the queue; it goes on from its newest checkpoint.
   *
   * @param acceptChanges whether it may go on over rows or a model that have changed since
   * @throws InputError with status 409 for any other
   */
  resume(id: string, acceptChanges = false): Job {
    const { status } = this.#job(id);
    if (status !== "cancelled" && status !== "failed") {
      throw new InputError(
        `Job ${id} ${isFinished(status) ? "has" : "is"} ${status} and cannot be resumed.`,
        {
          path: ["id"],
          value: id,
          accepted: "a job that was cancelled or has failed",
          status: 409,
        },
      );
    }
    try {
      recordAcceptance(this.#options.state, id, acceptChanges);
    } catch (error) {
      throw storageError(error) ?? error;
    }
    this.#options.store.retry(id);
    this.wake();
    return this.#job(id);
  }

  /**
   * Deletes a job that has ended, its events and its folder. Where the folder is being read it goes afterwards, by the next
   * start at the latest.
   *
   * @throws InputError with status 409 where the job has not ended, or another that has not begins with what it learned
   */
  async delete(id: string): Promise<void> {
    const { store } = this.#options;
    await this.#tidying;
    // One that cannot be read is not run either.
    const status = store.isSetAside(id) ? "failed" : this.#job(id).status;
    const refuse = (message: string, accepted: string): never => {
      throw new InputError(message, { path: ["id"], value: id, accepted, status: 409 });
    };
    if (!isFinished(status)) {
      const cancel = `POST /train/${id}/cancel`;
      refuse(`Job ${id} is ${status} and cannot be deleted: end it with ${cancel}.`, "a job that has ended");
    }
    const [dependent] = store.dependents(id);
    if (dependent !== undefined) {
      refuse(
        `Job ${id} cannot be deleted: job ${dependent}, which has not ended, begins with its adapter.`,
        `a job that is no unfinished job's init_adapter`,
      );
    }
    this.disk.withReserve(() => store.delete(id));
    this.#removeFolder(id);
    await this.#tidying;
  }

  /** Takes note of the size of a job's folder where it has changed. */
  async measure(id: string): Promise<void> {
    const { store, state } = this.#options;
    store.recordBytes(id, await jobBytes(state, id, false));
  }

  /** Starts no further job and puts the running ones down: they go on from their checkpoints in a later life. */
  async stop(): Promise<void> {
    this.#stopping = true;
    clearTimeout(this.#looking ?? undefined);
    const running = [...this.#running.values()];
    for (const { end } of running) end.abort(new Interrupted("stop"));
    await Promise.all(running.map(({ ended }) => ended));
    await this.#tidying;
    await this.disk.settled();
  }

  /** Starts the jobs that wait longest, as many as the engine has slots for, where the disk takes what they write. */
  async #fillSlots(): Promise<void> {
    const { store } = this.#options;
    const engine = await this.#options.engine.catch(() => null);
    if (engine === null || this.#alone || this.#stopping || store.nextQueued() === undefined) return;
    const refused = await this.disk.refusal();
    if (this.#stopping) return;
    if (refused !== null) return this.#look(refused);
    this.#inBackground(() => this.disk.keepReserve());
    while (!this.#stopping && this.#running.size < engine.trainingSlots) {
      const job = store.nextQueued();
      // One whose start could not be written is about to wait.
      if (job === undefined || this.#running.has(job.id)) return;
      void this.#take(job, engine)
        .catch((error) => log.error("Job {id} was lost sight of: {error}", { id: job.id, error }))
        .then(() => this.wake());
    }
  }

  /** Runs a job in a slot of its own. @returns when it has ended, or has been put down */
  #take(job: Job, engine: Engine): Promise<void> {
    const end = new AbortController();
    log.info("Job {id} starts.", { id: job.id });
    this.#waiting.delete(job.id);
    const ended = this.#runOrWait(job, engine, end).finally(() => this.#running.delete(job.id));
    this.#running.set(job.id, { end, ended });
    return ended;
  }

  async #runOrWait(job: Job, engine: Engine, end: AbortController): Promise<void> {
    const { store } = this.#options;
    const unrecorded: TrainEvent[] = [];
    try {
      store.start(job.id);
      await this.#run(job, engine, end, unrecorded);
      this.#waiting.gotOn(job.id);
    } catch (error) {
      await this.#putDown(job.id, error, unrecorded);
    }
  }

  /** Has a job wait whose files or whose row could not be written. */
  async #putDown(id: string, error: unknown, unrecorded: TrainEvent[]): Promise<void> {
    const { store, state } = this.#options;
    const fault = storageError(error);
    const why = fault?.message ?? notKept(error);
    if (fault !== null) log.warn("Job {id} waits: {why}", { id, why });
    else log.error("Job {id} waits: {error}", { id, error });
    await dropHalfWritten(state, id).catch(() => {}); // the next try does it
    // Asked before anyone is told, who may make room at once.
    const free = await this.disk.freeBytes();
    const blocked = await this.disk.fault() !== null;
    this.#waiting.add(id, unrecorded, blocked, free, this.#pollMs);
    store.wait(id, why);
    if (store.isSetAside(id)) this.#waiting.delete(id);
    else if (store.get(id)?.status === "waiting_for_space") this.#look();
    else this.#waiting.delete(id); // it was to be cancelled
  }

  /** Looks at the disk again after a while. @param why is said where it has not been */
  #look(why?: unknown): void {
    if (why !== undefined) {
      const told = why instanceof Error ? why.message : String(why);
      if (told !== this.#held) log.warn("Jobs wait: {why}", { why: told });
      this.#held = told;
    }
    if (this.#stopping || this.#looking !== null) return;
    this.#looking = setTimeout(() => {
      this.#looking = null;
      this.#goOn().catch((error) => this.#look(error));
    }, this.#pollMs);
  }

  /** Takes up what the disk kept from being done, where it takes writes again. */
  async #goOn(): Promise<void> {
    const { store } = this.#options;
    const refused = await this.disk.refusal();
    const free = await this.disk.freeBytes();
    if (this.#stopping) return;
    if (refused !== null) return this.#look(refused);
    this.#held = null;
    for (const [id, unrecorded] of this.#waiting.due(free)) {
      try {
        for (const event of [...unrecorded]) {
          store.record(id, event);
          unrecorded.shift();
        }
        store.requeue(id);
        this.#waiting.delete(id);
      } catch (error) {
        await this.#putDown(id, error, unrecorded); // it keeps no other from going on
      }
    }
    if (this.#waiting.size > 0) this.#look();
    this.#looked.resolve();
    this.#looked = Promise.withResolvers();
    if (this.#leftUntidied) {
      this.#leftUntidied = false;
      for (const id of store.deleted()) this.#removeFolder(id);
      for (const id of store.untidied()) this.#tidy(id);
    }
    this.wake();
  }

  /** @param unrecorded where what the engine tells is kept that could not be written */
  async #run(
    { id, model, settings }: Job,
    engine: Engine,
    end: AbortController,
    unrecorded: TrainEvent[],
  ): Promise<void> {
    const { store, state } = this.#options;
    const { signal } = end;
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
      const { dataset, eval_dataset } = store.datasets(id);
      const directory = jobFolder(state, id);
      // A job that has a checkpoint goes on from it: what it began with may have gone since.
      const init = await hasCheckpoint(state, id) ? null : settings.lora?.init_adapter ?? null;
      const sources = {
        ...this.#options,
        onDownload: (progress: DownloadProgress) => store.recordDownload(id, progress),
      };
      const rowsOf = (rows: DatasetSpec): Promise<Dataset> =>
        resolveDataset(sources, rows, signal).catch(async (error) => {
          // Rows that are tokens already are read no more: their files may have gone since.
          if (error instanceof InputError && await hasTokens(state, id)) return { paths: [] };
          throw error;
        });
      // loaded by the first job: a score must not wait for it
      const { resolveInitAdapter } = await import("./init_adapter.ts");
      const request = {
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
      await writeJobSettings(state, id, settings);
      const { outcome, step, device_share = null } = await engine.call("train", request, {
        signal,
        onLoading: (progress) => store.recordLoading(id, progress),
        onItem: (event) => {
          if (event.type === "plan") log.info("Job {id} is planned.", { id, plan: event.plan });
          record(event);
          if (event.type !== "checkpoint") return;
          this.#waiting.gotOn(id);
          recordAcceptance(state, id, false); // the checkpoint is of what was accepted
          this.#inBackground(() => this.measure(id));
        },
      });
      if (faults.length > 0) throw faults[0];
      log.info("Job {id} {outcome} at step {step}.", { id, outcome, step, device_share });
      if (outcome === "stopped") return store.requeue(id);
      if (outcome === "succeeded") {
        const form = settings.lora === null ? "full" : "adapter";
        await writeModelCard(join(directory, "result"), this.#job(id), form);
      }
      await this.#tidying; // an earlier measurement must not come after this one
      store.finish(id, outcome, null, await jobBytes(state, id, outcome === "succeeded"));
      this.#tidy(id);
    } catch (thrown) {
      const error = faults.length > 0 ? faults[0] : thrown;
      if (error instanceof DeviceLostError) {
        log.error("Job {id} lost its device: {error}", { id, error });
        return store.crashed(id, jobError(error), error.charged);
      }
      // What breaks while the worker stops is the stop's doing; the job goes on from its checkpoint.
      if (this.#stopping) return store.requeue(id);
      if (signal.aborted && error === signal.reason) return store.finish(id, "cancelled");
      // Nothing but the job's own fault fails it.
      const outside = storageError(error) ??
        (error instanceof InputError ? null : closedFile(error, state) ?? await this.disk.fault());
      if (outside !== null) throw outside;
      // The sender's mistake needs a sentence, ours a stack.
      const told = jobError(error);
      if (error instanceof InputError) log.info("Job {id} failed: {error}", { id, error: told.message });
      else log.error("Job {id} failed: {error}", { id, error });
      store.finish(id, "failed", told);
      this.#tidy(id);
    }
  }

  /**
   * Measures the folder of a job that has ended; from that of one that has succeeded goes what only a run needs. After a
   * crash the next start does it.
   */
  #tidy(id: string): void {
    const { store, state } = this.#options;
    this.#inBackground(async () => {
      const status = store.get(id)?.status ?? "queued";
      if (!isFinished(status)) return; // it was resumed or deleted meanwhile
      if (status === "succeeded") await dropRunFiles(state, id);
      await this.measure(id);
      store.recordTidied(id);
    });
  }

  /** Removes a deleted job's folder once nobody reads it; after a crash the next start does it. */
  #removeFolder(id: string): void {
    const { store, state } = this.#options;
    this.uses.whenFree(id, () => {
      if (this.#stopping) return;
      this.#inBackground(async () => {
        await removeJobFolder(state, id);
        store.forget(id);
        await this.disk.keepReserve();
      });
    });
  }

  /** Says that there are folders of jobs that the data base does not know: they may have been lost with its log. */
  async #nameStrangers(): Promise<void> {
    const { store, state } = this.#options;
    const unknown = (await jobsWithFolders(state)).filter((id) => store.numberOf(id) === undefined);
    const strangers = unknown.filter((id) => !store.deleted().includes(id));
    if (strangers.length === 0) return;
    log.error(
      "{count} folders in SIMPO_STATE/jobs, {id} among them, are of no job in jobs.sqlite: a part of it may be lost.",
      { count: strangers.length, id: strangers[0] },
    );
  }

  #inBackground(work: () => Promise<void>): void {
    this.#tidying = this.#tidying.then(work).catch((error) => {
      log.error("A job's folder could not be tidied: {error}", { error });
      if (storageError(error) === null) return;
      this.#leftUntidied = true;
      this.#look();
    });
  }

  #job(id: string): Job {
    const job = this.#options.store.get(id);
    if (job === undefined) throw unknownJob(id);
    return job;
  }
}

/** The answer to an id that no job has. */
export function unknownJob(id: string): InputError {
  return new InputError(`There is no job ${JSON.stringify(id)}.`, {
    path: ["id"],
    value: id,
    accepted: "the id of a job, as GET /train lists them",
    status: 404,
  });
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
