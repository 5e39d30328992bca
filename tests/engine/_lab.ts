/** An engine on whatever device answers, in a temporary folder, for the tests of one file. */
import { basename, join } from "node:path";
import { type EngineOptions, startEngine } from "../../src/engine/client.ts";
import {
  type Dataset,
  type Engine,
  type LoadProgress,
  type ScoredItem,
  type ScoreRequest,
  stream,
  type TrainEvent,
  type TrainOutcome,
} from "../../src/engine/protocol.ts";
import type { Text } from "../../src/preference/rows.ts";
import { datasetOf, settingsOf } from "../helpers/settings.ts";
import { plainRows, type TinyModelOptions, writeTinyModel } from "../helpers/tiny_model.ts";

/** What a job of a test may ask for, by the names of `POST /train`. */
export type JobOptions = Readonly<Record<string, unknown>> & {
  /** Absolute; the lab's first model unless given. */
  readonly model?: string;
  readonly rows?: readonly unknown[];
  readonly dataset?: Dataset;
  readonly eval_rows?: readonly unknown[];
  /** Settings past the bounds that a request has. */
  readonly past?: Readonly<Record<string, number>>;
  /** Folder of the adapter that training begins with. */
  readonly init_adapter?: string;
  /** Goes on in a folder that is there. */
  readonly directory?: string;
  readonly onEvent?: (event: JobEvent) => void;
  /** Ends it. */
  readonly signal?: AbortSignal;
};

/** A job's end and everything it said. */
export interface Trained extends TrainOutcome {
  readonly events: readonly JobEvent[];
  /** Metrics events in order. */
  readonly metrics: readonly MetricsEvent[];
  readonly directory: string;
  /** Folder of its result. */
  readonly result: string;
}

/** What a job tells, how far its weights are read among it. */
export type JobEvent = TrainEvent | { readonly type: "loading" } & LoadProgress;

type MetricsEvent = Extract<TrainEvent, { type: "metrics" }>;

export class Lab implements AsyncDisposable {
  readonly folder: string;
  #engine: Engine;
  #jobs = 0;

  private constructor(folder: string, engine: Engine) {
    this.folder = folder;
    this.#engine = engine;
  }

  /** Starts an engine and writes a model `model`. */
  static async open(options: Partial<EngineOptions> = {}): Promise<Lab> {
    const folder = await Deno.makeTempDir({ prefix: "simpo-" });
    await writeTinyModel(join(folder, "model"));
    return new Lab(folder, await startLabEngine(options));
  }

  get engine(): Engine {
    return this.#engine;
  }

  /** The folder of the model that is always there. */
  get model(): string {
    return join(this.folder, "model");
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  writeModel(name: string, options?: TinyModelOptions): Promise<string> {
    return writeTinyModel(this.path(name), options);
  }

  /** Writes rows as they are to a file in the lab. */
  async writeRows(name: string, rows: readonly unknown[]): Promise<{ path: string }> {
    await Deno.writeTextFile(this.path(name), rows.map((row) => JSON.stringify(row)).join("\n"));
    return { path: this.path(name) };
  }

  /** Stops the engine as SIGTERM does, and starts another. */
  async restart(): Promise<void> {
    await this.#engine.stop();
    this.#engine = await startLabEngine();
  }

  async train(options: JobOptions = {}): Promise<Trained> {
    const method = (options["method"] as { type?: string } | undefined)?.type;
    const {
      model = this.model,
      rows = plainRows(8),
      dataset = datasetOf(rows, method),
      eval_rows,
      init_adapter = null,
      directory = this.path(`job-${this.#jobs++}`),
      past = {},
      onEvent,
      signal,
      ...spec
    } = options;
    const events: JobEvent[] = [];
    const tell = (event: JobEvent) => {
      events.push(event);
      onEvent?.(event);
    };
    const outcome = await this.#engine.call("train", {
      id: basename(directory),
      model,
      dataset,
      eval_dataset: eval_rows ? datasetOf(eval_rows, method) : null,
      settings: { ...settingsOf(spec), ...past },
      init_adapter,
      directory,
    }, {
      signal,
      onItem: tell,
      onLoading: (progress) => tell({ type: "loading", ...progress }),
    });
    const metrics = events.filter((event) => event.type === "metrics");
    return { ...outcome, events, metrics, directory, result: join(directory, "result") };
  }

  async score(
    items: ScoreRequest["items"],
    options: Partial<Omit<ScoreRequest, "items">> = {},
  ): Promise<ScoredItem[]> {
    const request = {
      model: this.model,
      adapter: null,
      quantization: null,
      beta: 2,
      token_logprobs: false,
      ...options,
      items,
    };
    return await Array.fromAsync(stream(this.#engine, "score", request));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#engine.stop();
    await Deno.remove(this.folder, { recursive: true });
  }
}

/** Whichever device there is. */
function startLabEngine(options: Partial<EngineOptions> = {}): Promise<Engine> {
  return startEngine({ device: "auto", allowSoftware: true, ...options });
}

/** Every file under a folder with its bytes, by its name relative to it. */
export async function filesOf(folder: string): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (!isDirectory) files[name] = await Deno.readFile(path);
    else for (const [inner, bytes] of Object.entries(await filesOf(path))) files[join(name, inner)] = bytes;
  }
  return files;
}

/** A preference row as an item to score: chosen, then rejected. */
export function itemOf(
  row: Readonly<Record<"prompt" | "chosen" | "rejected", unknown>>,
): { readonly prompt: Text; readonly candidates: readonly Text[] } {
  return { prompt: row.prompt as Text, candidates: [row.chosen as Text, row.rejected as Text] };
}

/** Average log-probs of all candidates in turn: of {@link itemOf}'s items, chosen and rejected. */
export function logprobsOf(items: readonly ScoredItem[]): number[] {
  return items.flatMap(({ results }) => results.map(({ average_logprob }) => average_logprob!));
}

/** What training logs of pairs with these average log-probs: the mean of the chosen and that of the rejected. */
export function meansOf(logprobs: readonly number[]): [chosen: number, rejected: number] {
  const mean = (part: 0 | 1) =>
    2 * logprobs.reduce((sum, logprob, i) => i % 2 === part ? sum + logprob : sum, 0) / logprobs.length;
  return [mean(0), mean(1)];
}

/** The means that training logged. @param prefix `eval_` for those of an evaluation */
export function loggedMeans({ metrics }: MetricsEvent, prefix: "" | "eval_"): number[] {
  return [metrics[`${prefix}logps/chosen`]!, metrics[`${prefix}logps/rejected`]!];
}
