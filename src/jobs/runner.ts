/** Trains the queued jobs, as many at a time as the engine has slots for. */
import type { Job } from "../api/job.ts";
import type { Engine, TrainEvent } from "../engine/protocol.ts";
import { Interrupted } from "../errors.ts";
import { logger } from "../log.ts";
import { recordAcceptance } from "./accepted.ts";
import { type DiskLimits, StateDisk } from "./disk.ts";
import type { FileSources } from "./files.ts";
import { dropHalfWritten } from "./folder.ts";
import { conflict, isFinished } from "./job.ts";
import { JobFolders } from "./job_folders.ts";
import { storageError, whyWaiting } from "./storage.ts";
import type { JobStore } from "./store.ts";
import type { Uses } from "./uses.ts";
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
  /** Milliseconds between two tries of a disk that jobs wait for. */
  readonly pollMs?: number;
  /** Whether jobs that ran as an earlier process ended may be why; they may unless given. */
  readonly jobsCharged?: boolean;
}

/** Milliseconds between two tries of the disk. */
const POLL_MS = 2000;

/** Runs the queue from the start of the process to its stop. */
export class JobRunner {
  readonly #options: RunnerOptions;
  readonly disk: StateDisk;
  readonly #folders: JobFolders;
  /** What ends each running job, and when it has ended. */
  readonly #running = new Map<string, { readonly end: AbortController; readonly ended: Promise<void> }>();
  readonly #waiting = new WaitingJobs();
  readonly #stopping = new AbortController();
  #timer: ReturnType<typeof setTimeout> | null = null;
  /** Why no job is begun, as it was logged last. */
  #loggedWhy: string | null = null;
  /** Whether the jobs that wait are left where they are: one alone is run. */
  #alone = false;
  /** Fulfilled when the disk takes writes again and the jobs that can go on do. */
  #retried = Promise.withResolvers<void>();

  /** Nothing runs until `start` or `runToEnd`. */
  constructor(options: RunnerOptions) {
    const { store, state, limits } = this.#options = options;
    const disk = this.disk = new StateDisk(state, limits);
    const stopping = this.#stopping.signal;
    this.#folders = new JobFolders({ store, state, disk, stopping, onFault: () => this.#retryLater() });
  }

  /** Who reads which job's folder. */
  get uses(): Uses {
    return this.#folders.uses;
  }

  /** Recovers the jobs that an earlier process left, tidies and removes their folders, then runs the queue. */
  start(): void {
    const { store, jobsCharged } = this.#options;
    const parts = [
      () => store.recover(jobsCharged),
      () => store.waiting().forEach((id) => this.#waiting.addFound(id)),
      () => this.#folders.removeDeleted(),
      () => this.#folders.tidyEnded(),
      () => this.#folders.reportUnknown(),
    ];
    for (const part of parts) {
      try {
        part();
      } catch (error) {
        // What is damaged keeps nothing else from being served.
        log.error("Something of an earlier life could not be taken up: {error}", { error });
      }
    }
    if (this.#waiting.size > 0) this.#retry().catch((error) => this.#retryLater(error));
    else this.wake();
  }

  /** Looks for work; called whenever a job is put into the queue. */
  wake(): void {
    this.#fillSlots().catch((error) => this.#retryLater(error));
  }

  /** Runs one job, which must be queued, and nothing else; where there is no room for it, it waits. */
  async runToEnd(id: string): Promise<Job> {
    const { store } = this.#options;
    this.#alone = true;
    for (;;) {
      const engine = await this.#options.engine;
      const refused = await this.disk.refusal();
      if (refused === null) await this.#take(store.find(id), engine);
      else await this.#park(id, refused, []);
      await this.#folders.done;
      if (!this.#waiting.has(id)) return store.find(id);
      while (this.#waiting.has(id)) await this.#retried.promise;
    }
  }

  /**
   * Ends a job: at once where it waits, after the current micro-batch where it trains.
   *
   * @throws {InputError} with status 409 where the job has ended otherwise
   */
  cancel(id: string): Job {
    const { store } = this.#options;
    const job = store.find(id);
    if (job.status === "cancelled") return job;
    if (isFinished(job.status)) {
      throw conflict(`Job ${id} has ${job.status} and cannot be cancelled.`, "a job that has not ended", id);
    }
    if (job.status === "queued" || job.status === "waiting_for_space") {
      this.disk.withReserve(() => store.finish(id, "cancelled"));
      this.#waiting.delete(id);
    } else {
      this.disk.withReserve(() => store.requestCancel(id));
      this.#running.get(id)?.end.abort(new Interrupted("cancel"));
    }
    return store.find(id);
  }

  /**
   * Puts a job that was cancelled or has failed back into the queue; it goes on from its newest checkpoint.
   *
   * @param acceptChanges whether it may go on over rows or a model that have changed since
   * @throws {InputError} with status 409 for any other
   */
  resume(id: string, acceptChanges = false): Job {
    const { store, state } = this.#options;
    const { status } = store.find(id);
    if (status !== "cancelled" && status !== "failed") {
      const message = `Job ${id} ${isFinished(status) ? "has" : "is"} ${status} and cannot be resumed.`;
      throw conflict(message, "a job that was cancelled or has failed", id);
    }
    try {
      recordAcceptance(state, id, acceptChanges);
    } catch (error) {
      throw storageError(error) ?? error;
    }
    store.retry(id);
    this.wake();
    return store.find(id);
  }

  /**
   * Deletes a job that has ended, its events and its folder. Where the folder is being read it goes afterwards, by the next
   * start at the latest.
   *
   * @throws {InputError} with status 409 where the job has not ended, or another that has not begins with what it learned
   */
  async delete(id: string): Promise<void> {
    const { store } = this.#options;
    await this.#folders.done;
    // One that cannot be read is not run either.
    const status = store.isSetAside(id) ? "failed" : store.find(id).status;
    if (!isFinished(status)) {
      const cancel = `POST /train/${id}/cancel`;
      const message = `Job ${id} is ${status} and cannot be deleted: end it with ${cancel}.`;
      throw conflict(message, "a job that has ended", id);
    }
    const [dependent] = store.dependents(id);
    if (dependent !== undefined) {
      throw conflict(
        `Job ${id} cannot be deleted: job ${dependent}, which has not ended, begins with its adapter.`,
        `a job that is no unfinished job's init_adapter`,
        id,
      );
    }
    this.disk.withReserve(() => store.delete(id));
    this.#folders.remove(id);
    await this.#folders.done;
  }

  /** Records the size of a job's folder where it has changed. */
  async measure(id: string): Promise<void> {
    await this.#folders.measure(id);
  }

  /** Starts no further job and queues the running ones again: a later process resumes them from their checkpoints. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    clearTimeout(this.#timer ?? undefined);
    const running = [...this.#running.values()];
    for (const { end } of running) end.abort(new Interrupted("stop"));
    await Promise.all(running.map(({ ended }) => ended));
    await this.#folders.done;
    await this.disk.settled();
  }

  /** Starts the jobs that wait longest, as many as the engine has slots for, where the disk takes what they write. */
  async #fillSlots(): Promise<void> {
    const { store } = this.#options;
    const stopping = this.#stopping.signal;
    const engine = await this.#options.engine.catch(() => null);
    if (engine === null || this.#alone || stopping.aborted || store.nextQueued() === undefined) return;
    const refused = await this.disk.refusal();
    if (stopping.aborted) return;
    if (refused !== null) return this.#retryLater(refused);
    this.#folders.queue(() => this.disk.keepReserve());
    while (!stopping.aborted && this.#running.size < engine.trainingSlots) {
      const job = store.nextQueued();
      // One whose start could not be written is about to wait.
      if (job === undefined || this.#running.has(job.id)) return;
      void this.#take(job, engine)
        .catch((error) => log.error("Job {id} was lost sight of: {error}", { id: job.id, error }))
        .then(() => this.wake());
    }
  }

  /** Runs a job in a slot of its own. @returns when it has ended, is queued again or waits */
  #take(job: Job, engine: Engine): Promise<void> {
    const end = new AbortController();
    log.info("Job {id} starts.", { id: job.id });
    this.#waiting.delete(job.id);
    const unrecorded: TrainEvent[] = [];
    const ended = this.#run(job, engine, end, unrecorded)
      .catch((error) => this.#park(job.id, error, unrecorded))
      .finally(() => this.#running.delete(job.id));
    this.#running.set(job.id, { end, ended });
    return ended;
  }

  async #run(job: Job, engine: Engine, end: AbortController, unrecorded: TrainEvent[]): Promise<void> {
    this.#options.store.start(job.id);
    // Loaded by the first job: a score must not wait for it.
    const { runJob } = await import("./job_run.ts");
    const [folders, stopping] = [this.#folders, this.#stopping.signal];
    const context = { ...this.#options, disk: this.disk, folders, engine, stopping };
    const onProgress = () => this.#waiting.progressed(job.id);
    await runJob(context, job, end, unrecorded, onProgress);
    onProgress();
  }

  /** Has a job wait whose files or row could not be written. */
  async #park(id: string, error: unknown, unrecorded: TrainEvent[]): Promise<void> {
    const { store, state } = this.#options;
    const why = whyWaiting(error);
    if (storageError(error) !== null) log.warn("Job {id} waits: {why}", { id, why });
    else log.error("Job {id} waits: {error}", { id, error });
    await dropHalfWritten(state, id).catch(() => {}); // the next try does it
    // Asked before a subscriber is told, who may make room at once.
    const free = await this.disk.freeBytes();
    const blocked = await this.disk.fault() !== null;
    this.#waiting.add(id, unrecorded, blocked, free, this.#options.pollMs ?? POLL_MS);
    store.wait(id, why);
    if (store.isSetAside(id)) this.#waiting.delete(id);
    else if (store.get(id)?.status === "waiting_for_space") this.#retryLater();
    else this.#waiting.delete(id); // it was to be cancelled
  }

  /** Tries the disk again after a while. @param why is logged unless it was logged last */
  #retryLater(why?: unknown): void {
    if (why !== undefined) {
      const told = why instanceof Error ? why.message : String(why);
      if (told !== this.#loggedWhy) log.warn("Jobs wait: {why}", { why: told });
      this.#loggedWhy = told;
    }
    if (this.#stopping.signal.aborted || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#retry().catch((error) => this.#retryLater(error));
    }, this.#options.pollMs ?? POLL_MS);
  }

  /** Resumes waiting jobs and folder work where the disk takes writes again. */
  async #retry(): Promise<void> {
    const { store } = this.#options;
    const refused = await this.disk.refusal();
    const free = await this.disk.freeBytes();
    if (this.#stopping.signal.aborted) return;
    if (refused !== null) return this.#retryLater(refused);
    this.#loggedWhy = null;
    for (const [id, unrecorded] of this.#waiting.due(free)) {
      try {
        for (const event of [...unrecorded]) {
          store.record(id, event);
          unrecorded.shift();
        }
        store.requeue(id);
        this.#waiting.delete(id);
      } catch (error) {
        await this.#park(id, error, unrecorded); // it keeps no other from going on
      }
    }
    if (this.#waiting.size > 0) this.#retryLater();
    this.#retried.resolve();
    this.#retried = Promise.withResolvers();
    this.#folders.retry();
    this.wake();
  }
}
