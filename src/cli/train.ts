/** `main.ts train`: runs one job file to its end. */
// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import { join } from "node:path";
import type { Job } from "../api/job.ts";
import { COMMANDS } from "../commands.ts";
import { readConfig } from "../config.ts";
import { endedInScoring } from "../engine/journal.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { recordAcceptance } from "../jobs/accepted.ts";
import { checkFiles } from "../jobs/check_files.ts";
import { jobFolder, jobIdOf, removeJobFolder } from "../jobs/folder.ts";
import { withInitAdapter } from "../jobs/init_adapter.ts";
import { isFinished } from "../jobs/job.ts";
import { JobRunner } from "../jobs/runner.ts";
import { settingsOf } from "../jobs/spec.ts";
import type { JobStore } from "../jobs/store.ts";
import { startLogging } from "../log.ts";
import { parseCommand, usageOf } from "./_arguments.ts";
import {
  checkRoot,
  deviceOptions,
  endsWithin,
  exitCodeOf,
  openStore,
  type StartEngine,
  stopSignal,
} from "./_command.ts";
import { readJob } from "./_job_file.ts";
import { openHub } from "./_hub.ts";
import { MetricRows } from "./_metric_rows.ts";
import { planSummary } from "./_plan.ts";
import { ProgressDisplay } from "./_progress.ts";
import { refuse } from "./_refuse.ts";

const shutdownMs = 7_000;

/**
 * Trains what a job file asks for. The same file is the same job: run again after a stop or a kill it goes on from its
 * last checkpoint, run again after its end it trains nothing.
 *
 * Metrics go to stdout: to a terminal as rows, elsewhere as one JSON object a line, unless `--json` or `--rows` says which.
 * Everything else goes to stderr.
 *
 * `--accept-changes` lets it go on over a data set or a model that have changed since its checkpoint.
 *
 * @param args `[--quiet | --json | --rows] [--accept-changes] job.json`
 * @returns the exit code: 0 trained, 1 failed, 2 the job's own mistake, 130 or 143 after a signal
 * @throws InputError for a file or setting that cannot be used
 */
export async function train(args: readonly string[], startEngine: StartEngine): Promise<number> {
  const parsed = parseCommand("train", COMMANDS.train, args);
  if (parsed === null) return 0;
  const { values, files } = parsed;
  if (Number(values.quiet) + Number(values.json) + Number(values.rows) > 1) {
    const accepted = "one of --quiet, --json and --rows";
    refuse("arguments", args, accepted, `Give ${accepted}.\n${usageOf("train", COMMANDS.train)}`);
  }
  const config = readConfig();
  startLogging(config.logLevel === "info" ? "warning" : config.logLevel);
  await checkRoot(config);
  const { request, spec } = await readJob(files[0] ?? "");
  const { dataset, eval_dataset = null } = request;
  const id = await jobIdOf(JSON.stringify({ ...spec, dataset, eval_dataset }));

  using store = await openStore(config);
  // This job may be one of them that is asked for again.
  for (const deleted of store.deleted()) {
    await removeJobFolder(config.state, deleted);
    store.forget(deleted);
  }
  const result = join(jobFolder(config.state, id), "result");
  const known = store.get(id);
  if (known?.status === "succeeded") {
    console.error(`Job ${id} has succeeded already: ${result}`);
    return 0;
  }
  const hub = openHub(config);
  await checkFiles({ ...config, hub }, spec);
  if (known === undefined) {
    const downloads = values.quiet ? null : new ProgressDisplay();
    const onDownload = (progress: DownloadProgress) => downloads?.download(progress);
    const complete = await withInitAdapter(request, { ...config, hub, store, onDownload });
    store.create(id, { ...spec, settings: settingsOf(complete) });
  } else if (isFinished(known.status)) store.retry(id);
  else store.recover(!endedInScoring(config.state));
  const waiting = store.get(id);
  if (waiting !== undefined && isFinished(waiting.status)) return report(waiting, result);

  recordAcceptance(config.state, id, values["accept-changes"]);
  const signal = stopSignal();
  const engine = await startEngine({ ...deviceOptions(config), journalFolder: config.state });
  const runner = new JobRunner({
    store,
    hub,
    root: config.root,
    state: config.state,
    cache: config.cache,
    engine: Promise.resolve(engine),
    limits: config,
  });
  const rows = values.rows || !values.json && Deno.stdout.isTerminal();
  const display = new Display(store, id, values.quiet ? "nothing" : rows ? "rows" : "json");
  try {
    const outcome = await Promise.race([runner.runToEnd(id), signal]);
    if (typeof outcome !== "string") {
      display.end();
      return report(outcome, result);
    }
    const stopped = Promise.allSettled([runner.stop(), engine.stop()]);
    await endsWithin(stopped, shutdownMs);
    display.end();
    console.error(`Stopped; the same command goes on with job ${id}.`);
    return exitCodeOf(outcome);
  } finally {
    display.end();
    await endsWithin(engine.stop(), shutdownMs);
  }
}

function report(job: Job, result: string): number {
  const { count, first } = job.rows_left_out;
  if (count > 0) {
    const rows = first.slice(0, 5).map(({ split, row, reason }) => `${split} row ${row}: ${reason}`);
    console.error(`${count} rows left out, such as ${rows.join("; ")}`);
  }
  if (job.status === "succeeded") {
    console.error(`Job ${job.id} succeeded after ${job.progress.step} steps: ${result}`);
    return 0;
  }
  console.error(`Job ${job.id} ${job.status}${job.error === null ? "" : `: ${job.error.message}`}`);
  return job.error?.field === undefined ? 1 : 2;
}

/** What a person and a program see of a job: a bar where stderr is a terminal, metrics on stdout as rows or as JSON. */
class Display {
  readonly #store: JobStore;
  readonly #id: string;
  readonly #metrics: "rows" | "json" | "nothing";
  readonly #rows = new MetricRows();
  readonly #bar: SingleBar | null;
  readonly #progress: ProgressDisplay | null;
  readonly #unsubscribe: () => void;
  #last: number;
  #plan: string | null = null;
  #waitingFor: string | null = null;
  #running = false;
  #started = false;

  constructor(store: JobStore, id: string, metrics: "rows" | "json" | "nothing") {
    this.#store = store;
    this.#id = id;
    this.#metrics = metrics;
    const quiet = metrics === "nothing";
    // A resumed job's earlier metrics have been printed by the earlier run.
    this.#last = store.events(id, 0).at(-1)?.id ?? 0;
    this.#bar = quiet || !Deno.stderr.isTerminal() ? null : new SingleBar({
      format: "{bar} step {value}/{total}  loss {loss}  {speed} tokens/s  {left} s left",
      clearOnComplete: metrics === "rows",
    });
    this.#progress = quiet ? null : new ProgressDisplay();
    this.#unsubscribe = store.subscribe(id, () => this.#update());
  }

  end(): void {
    this.#unsubscribe();
    this.#progress?.end();
    this.#stopBar();
  }

  #stopBar(): void {
    if (this.#started) this.#bar?.stop();
    this.#started = false;
  }

  #update(): void {
    for (const { id, type, data } of this.#store.events(this.#id, this.#last)) {
      this.#last = id;
      if (this.#metrics === "rows" && (type === "metrics" || type === "warning")) {
        this.#stopBar(); // it starts anew below what is printed
      }
      if (type === "metrics" && this.#metrics === "json") console.log(JSON.stringify(data));
      if (type === "metrics" && this.#metrics === "rows") {
        for (const line of this.#rows.lines(data)) console.log(line);
      }
      // An earlier life's number of steps is known before this one has loaded its weights.
      if (type === "status") this.#running = data["status"] === "running";
      if (type === "warning") console.error(`Warning: ${data["message"]}`);
    }
    const job = this.#store.get(this.#id);
    if (job?.waiting_for && job.waiting_for !== this.#waitingFor) {
      this.#stopBar();
      console.error(`Waiting: ${job.waiting_for} It goes on by itself.`);
    }
    this.#waitingFor = job?.waiting_for ?? null;
    const plan = job?.plan ? planSummary(job.plan) : null;
    if (plan !== null && plan !== this.#plan && this.#metrics !== "nothing") console.error(`Memory ${plan}.`);
    this.#plan = plan;
    if (job?.downloading) return this.#progress?.download(job.downloading);
    if (job?.loading) return this.#progress?.load(job.loading);
    if (this.#bar === null || !this.#running || job?.progress.total_steps == null) return;
    const { step, total_steps, tokens_per_second } = job.progress;
    const loss = job.metrics?.["loss"];
    const shown = {
      loss: loss === undefined ? "-" : loss.toFixed(4),
      speed: tokens_per_second === null ? "-" : tokens_per_second.toFixed(0),
      left: job.seconds_remaining === null ? "-" : job.seconds_remaining.toFixed(0),
    };
    if (this.#started) this.#bar.update(step, shown);
    else this.#bar.start(total_steps, step, shown);
    this.#started = true;
  }
}
