/** Trains the queued jobs, one at a time. */
import type { Job, JobError } from "../api/job.ts";
import type { Engine } from "../engine/protocol.ts";
import { DeviceLostError, InputError, within } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { logger } from "../log.ts";
import { type FileSources, resolveDataset, resolveModel } from "./files.ts";
import { jobFolder, jobWeights, writeJobSettings } from "./folder.ts";
import { resolveInitAdapter } from "./init_adapter.ts";
import { isFinished } from "./job.ts";
import type { JobStore } from "./store.ts";

const log = logger("jobs");

/** Where the runner finds what it needs. */
export interface RunnerOptions extends FileSources {
  readonly store: JobStore;
  /** Absolute folder of the jobs' folders. */
  readonly state: string;
  /** Jobs wait until it is there; where it cannot be had they stay queued. */
  readonly engine: Promise<Engine>;
}

/** A life of the queue: from the start of the process to its stop. */
export class JobRunner {
  readonly #options: RunnerOptions;
  #stopping = false;
  /** Ends the downloads of the job that is being prepared. */
  #preparing = new AbortController();
  #loop: Promise<void> = Promise.resolve();

  /** Nothing runs until `start` or `runToEnd`. */
  constructor(options: RunnerOptions) {
    this.#options = options;
  }

  /** Takes up what an earlier process left running, then works through the queue. */
  start(): void {
    this.#options.store.recover();
    this.wake();
  }

  /** Looks for work; called whenever a job is put into the queue. */
  wake(): void {
    this.#loop = this.#loop.then(() => this.#drain());
  }

  /** Runs one job, which must be queued, and nothing else. */
  async runToEnd(id: string): Promise<Job> {
    this.#loop = this.#loop.then(async () => this.#run(this.#job(id), await this.#options.engine));
    await this.#loop;
    return this.#job(id);
  }

  /**
   * Ends a job: at once where it waits, after the current micro-batch where it trains.
   *
   * @throws InputError with status 409 where the job has ended otherwise
   */
  cancel(id: string): Job {
    const { store, engine } = this.#options;
    const job = this.#job(id);
    if (job.status === "cancelled") return job;
    if (isFinished(job.status)) {
      throw new InputError(`Job ${id} has ${job.status} and cannot be cancelled.`, {
        path: ["id"],
        value: id,
        accepted: "a job that is queued or running",
        status: 409,
      });
    }
    if (job.status === "queued") store.finish(id, "cancelled");
    else {
      store.requestCancel(id);
      this.#preparing.abort();
      void engine.then((engine) => engine.cancel(id));
    }
    return this.#job(id);
  }

  /** Starts no further job and waits until the engine has put the running one down; the engine is stopped by its owner. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#preparing.abort();
    await this.#loop;
  }

  async #drain(): Promise<void> {
    for (;;) {
      const engine = await this.#options.engine.catch(() => null);
      const job = engine === null || this.#stopping ? undefined : this.#options.store.nextQueued();
      if (engine === null || job === undefined) return;
      await this.#run(job, engine);
    }
  }

  async #run(job: Job, engine: Engine): Promise<void> {
    const { store, state } = this.#options;
    const { id } = job;
    this.#preparing = new AbortController();
    const { signal } = this.#preparing;
    log.info("Job {id} starts.", { id });
    store.start(id);
    try {
      const { dataset, eval_dataset } = store.datasets(id);
      const directory = jobFolder(state, id);
      // A job that has a checkpoint goes on from it: what it began with may have gone since.
      const init = await jobWeights(state, id) === null ? job.settings.lora?.init_adapter ?? null : null;
      const sources = {
        ...this.#options,
        onDownload: (progress: DownloadProgress) => store.recordDownload(id, progress),
      };
      const request = {
        id,
        model: await within(["model"], () => resolveModel(sources, job.model, signal)),
        dataset: await within(["dataset"], () => resolveDataset(sources, dataset, signal)),
        eval_dataset: eval_dataset &&
          await within(["eval_dataset"], () => resolveDataset(sources, eval_dataset, signal)),
        settings: job.settings,
        init_adapter: init === null ? null : await resolveInitAdapter(sources, init),
        directory,
      };
      await writeJobSettings(state, id, job.settings);
      // A cancel or a stop may have come while the files were looked up, before the engine knew the job.
      if (this.#stopping) return store.requeue(id);
      if (this.#job(id).cancel_requested) return store.finish(id, "cancelled");
      const { outcome, step } = await engine.train(request, (event) => {
        if (event.type === "plan") log.info("Job {id} is planned.", { id, plan: event.plan });
        store.record(id, event);
      });
      log.info("Job {id} {outcome} at step {step}.", { id, outcome, step });
      if (outcome === "stopped") store.requeue(id);
      else store.finish(id, outcome);
    } catch (error) {
      if (error instanceof DeviceLostError) {
        log.error("Job {id} lost its device: {error}", { id, error });
        return store.crashed(id, jobError(error));
      }
      // What breaks while the worker stops is the stop's doing; the job goes on from its checkpoint.
      if (this.#stopping) return store.requeue(id);
      if (signal.aborted && error === signal.reason) return store.finish(id, "cancelled");
      // The sender's mistake needs a sentence, ours a stack.
      if (error instanceof InputError) log.info("Job {id} failed: {error}", { id, error: error.message });
      else log.error("Job {id} failed: {error}", { id, error });
      store.finish(id, "failed", jobError(error));
    }
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

function jobError(error: unknown): JobError {
  if (error instanceof InputError) {
    const { value, accepted } = error.problem;
    return { message: error.message, field: error.field, value, accepted };
  }
  return { message: error instanceof Error ? error.message : String(error) };
}
