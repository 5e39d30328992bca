/**
 * `main.ts demo`: the worker shown end to end over HTTP. Starts a server, scores held-out candidates, trains with SimPO,
 * scores again, and leaves the adapter and a picture of the curves behind.
 */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
// @ts-types="./_cli_progress.d.ts"
import { SingleBar } from "cli-progress";
import { COMMANDS } from "../commands.ts";
import { readDataFiles } from "../preference/data_files.ts";
import { RowReader } from "../preference/row_reader.ts";
import type { Text } from "../preference/rows.ts";
import { STOP_SIGNALS } from "../signals.ts";
import { parseCommand } from "./_arguments.ts";
import type { ScoredCandidate } from "../api/score.ts";
import type { Item } from "../api/score_item.ts";
import { parseJobSpec } from "../jobs/spec.ts";
import { encodingOfJob } from "../scoring/encoding.ts";
import { agreementOf, formatBeforeAfter, type HeldOutPair, type PairScores } from "./_before_after.ts";
import { Client, ServiceError } from "./_client.ts";
import { drawCurves, type Panel } from "./_curves.ts";
import { askDoctor, startServer } from "./_server_process.ts";
import { unpackTar } from "./_untar.ts";

/** What the demo promises of its held-out pairs. */
const LEAST_ACCURACY = 0.9;
const LEAST_GAIN = 0.3;
/** Pairs shown in full. */
const SHOWN = 4;

/** Metrics of one step, by TRL's names. */
type Metrics = Readonly<Record<string, number>> & { readonly step: number };

/** What the demo works on. */
export interface DemoInput {
  /** Body of POST /train. */
  readonly job: { readonly model: string };
  /** Fields of POST /score by which the job's rows become tokens: its id stands for them once it has begun. */
  readonly encoding: Readonly<Record<string, unknown>>;
  readonly pairs: readonly HeldOutPair[];
  /** The pairs as POST /score takes them. */
  readonly items: readonly Item[];
  /** Folder for the adapter and the curves. */
  readonly output: string;
}

/**
 * Runs the demo.
 *
 * @param args the command line after `demo`: `--output FOLDER` (demo-output)
 * @returns the exit code: 0, 1 where training did not reach what the demo promises, 130 after Ctrl-C
 */
export async function demo(args: readonly string[]): Promise<number> {
  const parsed = parseCommand("demo", COMMANDS.demo, args);
  if (parsed === null) return 0;
  const examples = new URL("../../examples/", import.meta.url);
  const job = JSON.parse(await Deno.readTextFile(new URL("demo_job.json", examples)));
  const { settings } = parseJobSpec(job);
  const input = {
    job,
    encoding: { ...encodingOfJob(settings), chat_template: settings.chat_template },
    output: parsed.values.output,
    ...await readHeldOut(fileURLToPath(new URL("preferences.eval.jsonl", examples))),
  };
  const interrupted = new AbortController();
  const interrupt = () => interrupted.abort();
  for (const signal of STOP_SIGNALS) Deno.addSignalListener(signal, interrupt);
  const device = await askDoctor();
  const state = await Deno.makeTempDir({ prefix: "simpo-demo-" });
  const server = startServer(state, device.kind);
  try {
    const client = new Client(server.url, AbortSignal.any([interrupted.signal, server.ended]));
    console.log(`Server: ${server.url} on ${device.description} (started as deno task serve does)`);
    await client.ready();
    return await runDemo(client, input);
  } catch (error) {
    if (interrupted.signal.aborted) {
      console.error("Interrupted.");
      return 130;
    }
    const cause = server.ended.aborted ? server.ended.reason : error;
    if (!(cause instanceof ServiceError)) throw cause;
    console.error(`${cause.message}\nThe worker's last words:\n${server.log()}`);
    return 1;
  } finally {
    await server.stop();
    await Deno.remove(state, { recursive: true });
    for (const signal of STOP_SIGNALS) Deno.removeSignalListener(signal, interrupt);
  }
}

/**
 * The demo's course against a worker that takes requests.
 *
 * @returns the exit code: 0, or 1 where training did not reach what the demo promises
 */
export async function runDemo(
  client: Client,
  { job, encoding, pairs, items, output }: DemoInput,
): Promise<number> {
  const score = async (when: "before" | "after", fields: Record<string, unknown>): Promise<PairScores[]> => {
    const start = performance.now();
    const scored = await client.score(job.model, items, fields);
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    console.log(
      `Scored ${pairs.length} held-out pairs ${when} training (${seconds} s).`,
    );
    return scored.map(({ results: [first, second] }) => [scoreOf(first!), scoreOf(second!)]);
  };
  const before = await score("before", encoding);
  const { id } = await client.train(job);
  const metrics = await follow(client, id);
  const after = await score("after", { adapter: id });
  console.log(`\n${formatBeforeAfter(pairs, before, after, SHOWN)}\n`);

  await Deno.mkdir(output, { recursive: true });
  const files = await unpackTar(await client.adapter(id), join(output, "adapter"));
  console.log(`Adapter (PEFT): ${files.map((file) => join(output, "adapter", file)).join(", ")}`);
  const curves = join(output, "curves.svg");
  await Deno.writeTextFile(curves, drawCurves(panelsOf(metrics)));
  console.log(`Curves: ${curves}`);
  return judge(agreementOf(pairs, before).accuracy, agreementOf(pairs, after).accuracy);
}

function scoreOf({ average_logprob, num_tokens, reason }: ScoredCandidate): PairScores[number] {
  if (average_logprob === null) throw new ServiceError(`A held-out answer has no score: ${reason}`);
  return { average_logprob, num_tokens };
}

/** Shows the job behind a progress bar until it is done. @returns its metrics, in the order of the steps */
async function follow(client: Client, id: string): Promise<Metrics[]> {
  const metrics: Metrics[] = [];
  const bar = new SingleBar({
    format:
      "Training [{bar}] {value}/{total}  loss {loss}  margin {margin}  accuracy {accuracy}  {rate} tokens/s",
    barsize: 16,
    hideCursor: true,
    noTTYOutput: true,
    notTTYSchedule: 5000,
  });
  let shown = { loss: "-", margin: "-", accuracy: "-", rate: "-" };
  bar.start(1, 0, shown);
  // The events are what training computed; how fast it goes stands in the job alone.
  const poll = setInterval(async () => {
    const progress = (await client.job(id).catch(() => undefined))?.progress;
    if (progress == null) return;
    shown = { ...shown, rate: progress.tokens_per_second?.toFixed(0) ?? shown.rate };
    bar.update(progress.step, shown);
  }, 1000);
  try {
    for await (const { event, data } of client.events(id)) {
      const body = JSON.parse(data);
      if (event === "status" && typeof body.total_steps === "number") bar.setTotal(body.total_steps);
      if (event !== "metrics") continue;
      metrics.push(body);
      shown = {
        ...shown,
        loss: body.loss?.toFixed(3) ?? shown.loss,
        margin: body["rewards/margins"]?.toFixed(2) ?? shown.margin,
        accuracy: body["rewards/accuracies"]?.toFixed(2) ?? shown.accuracy,
      };
      bar.update(body.step, shown);
    }
  } finally {
    clearInterval(poll);
    bar.stop();
  }
  const { status, error } = await client.job(id);
  if (status !== "succeeded") {
    throw new ServiceError(`Training ended as ${status}: ${JSON.stringify(error ?? null)}`);
  }
  return metrics;
}

function panelsOf(metrics: readonly Metrics[]): Panel[] {
  const series = (label: string, name: string) => ({
    label,
    points: metrics.flatMap((row) => row[name] === undefined ? [] : [[row.step, row[name]] as const]),
  });
  const panel = (name: string): Panel => ({
    title: name,
    series: [series("training", name), series("held out", `eval_${name}`)],
  });
  return [panel("loss"), panel("rewards/margins"), { ...panel("rewards/accuracies"), range: [0, 1] }];
}

/** Whether training did what the demo promises; says so where it did not. */
function judge(before: number, after: number): 0 | 1 {
  if (after >= LEAST_ACCURACY && after - before >= LEAST_GAIN) {
    console.log(`Held-out accuracy rose from ${before.toFixed(3)} to ${after.toFixed(3)}.`);
    return 0;
  }
  console.error(
    `Held-out accuracy went from ${before.toFixed(3)} to ${after.toFixed(3)}: the demo expects at least ` +
      `${LEAST_ACCURACY} after training and a gain of at least ${LEAST_GAIN}.`,
  );
  return 1;
}

/** Preference rows as pairs; the preferred candidate stands first and second in turns, so that its place says nothing. */
export async function readHeldOut(path: string): Promise<Pick<DemoInput, "pairs" | "items">> {
  const pairs: HeldOutPair[] = [];
  const items: Item[] = [];
  const reader = new RowReader({ kind: "preference" });
  for await (const row of readDataFiles([path])) {
    const [comparison] = reader.read(row);
    if (comparison === undefined) throw reader.left_out.firstFault;
    const { prompt, responses } = comparison;
    const [chosen, rejected] = responses.map(lastWords) as [string, string];
    const preferred = pairs.length % 2 === 0 ? 0 : 1;
    const candidates = preferred === 0 ? [chosen, rejected] as const : [rejected, chosen] as const;
    pairs.push({ prompt: lastWords(prompt), candidates, preferred });
    const asked = typeof prompt === "string"
      ? { prompt }
      : { messages: prompt.map((turn) => ({ ...turn, content: turn.content ?? "" })) };
    items.push({ ...asked, candidates: [...candidates] });
  }
  return { pairs, items };
}

/** A text, or what a conversation's last turn says. */
function lastWords(text: Text): string {
  return typeof text === "string" ? text : text.at(-1)?.content ?? "";
}
