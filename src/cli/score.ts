/** `main.ts score`: a JSONL file of prompts with candidates becomes one of scores. */
import { z } from "zod";
import { createReadStream } from "node:fs";
import process from "node:process";
import { ChatTemplateSchema } from "../api/fields.ts";
import { mostBeta, positive } from "../api/limits.ts";
import { defaultBeta } from "../api/score.ts";
import { type Item, ItemSchema } from "../api/score_item.ts";
import { COMMANDS } from "../commands.ts";
import { type Environment, readConfig } from "../config.ts";
import { InputError, relocated, within } from "../errors.ts";
import type { DownloadProgress } from "../hub/hub.ts";
import { resolveModel } from "../jobs/files.ts";
import { jobFolder, readJobSettings, resolveAdapter } from "../jobs/folder.ts";
import { startLogging } from "../log.ts";
import { readJsonLines } from "../preference/files/json_lines.ts";
import type { FileRow } from "../preference/files/source_row.ts";
import { QUANTIZATIONS } from "../model/quantization.ts";
import { checkChatTemplate } from "../text/check_template.ts";
import { relocatedItem, toEngineItem } from "../scoring/items.ts";
import { parseWith } from "../validation.ts";
import { parseCommand } from "./_arguments.ts";
import { checkRoot, deviceOptions, exitCodeOf, readUtf8, type StartEngine, stopSignal } from "./_command.ts";
import { encodingOfOptions, jsonOf } from "./_encoding_options.ts";
import { openHub } from "./_hub.ts";
import { ProgressDisplay } from "./_progress.ts";
import { refuse } from "./_refuse.ts";
import { type LoadProgress, stream } from "../engine/protocol.ts";

/** A shell's exit code for SIGPIPE, which Deno ignores. */
const brokenPipe = 141;

/** Items a call: enough to fill the device, few enough to hold. */
const itemsPerCall = 64;

/**
 * Scores every line of a file; by a job's result as the job had its base and its rows, unless options say otherwise. A line
 * is `{prompt | messages, candidates}`, the answer's line `{results, best, margin, prompt_truncated, encoding, usage}` behind
 * the line's other fields.
 *
 * @param environment where settings are read from
 * @returns the exit code: 0, 130 or 143 after a signal, 141 where nobody reads the output any more
 * @throws InputError naming the line that cannot be scored; the lines before it are written
 */
export async function score(
  args: readonly string[],
  startEngine: StartEngine,
  environment: Environment = Deno.env,
): Promise<number> {
  const parsed = parseCommand("score", COMMANDS.score, args);
  if (parsed === null) return 0;
  const { values, files } = parsed;
  const [input = "-", output = "-"] = files;
  const config = readConfig(environment);
  startLogging(config.logLevel === "info" ? "warning" : config.logLevel);
  await checkRoot(config);
  const beta = within(
    ["--beta"],
    () => parseWith(positive(mostBeta).default(defaultBeta), jsonOf(values.beta)),
  );
  const asked = QUANTIZATIONS.find((name) => name === values.quantization) ?? null;
  if (values.quantization !== undefined && asked === null) {
    const accepted = QUANTIZATIONS.join(", ");
    const sentence = `--quantization must be ${accepted}, not ${values.quantization}.`;
    refuse("--quantization", values.quantization, accepted, sentence);
  }
  const { model, adapter } = values;
  const isJob = (id: string) => exists(jobFolder(config.state, id));
  const display = new ProgressDisplay();
  const sources = {
    ...config,
    hub: openHub(config),
    onDownload: (progress: DownloadProgress) => display.download(progress),
    onDamage: (_id: string, message: string) => console.error(message),
  };
  const job = await readJobSettings(config.state, adapter ?? "");
  const request = {
    model: await within(["--model"], () => resolveModel(sources, model)),
    adapter: adapter === undefined
      ? null
      : await within(["--adapter"], () => resolveAdapter(sources, adapter, isJob)),
    quantization: asked ?? job?.quantization ?? null,
    ...encodingOfOptions(values, await readTemplate(values["chat-template"]), job),
    beta,
    token_logprobs: values["token-logprobs"],
  };

  const signal = stopSignal();
  const engine = await startEngine(deviceOptions(config));
  const options = { onLoading: (progress: LoadProgress) => display.load(progress) };
  const work = async () => {
    using out = openOutput(output, input);
    for await (const batch of inBatches(readItems(input))) {
      try {
        let index = 0;
        const items = batch.map(({ item }) => toEngineItem(item));
        for await (const scored of stream(engine, "score", { ...request, items }, options)) {
          out.write(`${JSON.stringify({ ...batch[index++]?.rest, ...scored })}\n`);
        }
      } catch (error) {
        throw atLine(error, batch);
      }
    }
    return 0;
  };
  try {
    const end = await Promise.race([work(), signal]);
    return typeof end === "string" ? exitCodeOf(end) : end;
  } catch (error) {
    // Whoever reads stdout wants no more, as `head` does.
    if (error instanceof Deno.errors.BrokenPipe) return brokenPipe;
    throw error;
  } finally {
    display.end();
    await engine.stop();
  }
}

async function readTemplate(path: string | undefined): Promise<string | null> {
  if (path === undefined) return null;
  const name = ["--chat-template"];
  let template: string;
  try {
    template = await readUtf8(path);
  } catch (error) {
    const sentence = `${name[0]} ${JSON.stringify(path)} cannot be read: ${(error as Error).message}`;
    return refuse(name[0]!, path, "a file with a Jinja template", sentence);
  }
  const checked = within(name, () => parseWith(ChatTemplateSchema, template));
  await checkChatTemplate(checked).catch((error) => {
    throw relocated(error, ["chat_template"], name);
  });
  return checked;
}

/** An item and the line it stands on, from 1. */
interface NumberedItem {
  readonly item: Item;
  readonly line: number;
  /** The line's other fields, an id for one: they go over into the answer's line. */
  readonly rest: Readonly<Record<string, unknown>>;
}

const LineSchema = z.looseObject({});

/** Types each line; blank lines are passed over. @throws InputError naming the line */
async function* readItems(path: string): AsyncGenerator<NumberedItem> {
  const stream = path === "-" ? process.stdin : createReadStream(path);
  try {
    for await (const row of readJsonLines(stream)) yield parseLine(row);
  } catch (error) {
    if (error instanceof InputError) throw error;
    const sentence = `${JSON.stringify(path)} cannot be read: ${(error as Error).message}`;
    refuse("in.jsonl", path, "a JSONL file, or - for stdin", sentence);
  }
}

function parseLine({ row: line, value, problem }: FileRow): NumberedItem {
  if (problem !== undefined) {
    throw new InputError((place) => `${place} ${problem}.`, {
      path: [{ line }],
      accepted: "a JSON object",
    });
  }
  return within([{ line }], () => {
    const { prompt, messages, candidates, tools, chat_template_kwargs, ...rest } = parseWith(
      LineSchema,
      value,
    );
    const item = parseWith(ItemSchema, { prompt, messages, candidates, tools, chat_template_kwargs });
    return { item, line, rest };
  });
}

/** An item's error at the line that the item came from. */
function atLine(error: unknown, batch: readonly NumberedItem[]): unknown {
  return batch.reduce(
    (error, { line, item }, i) => relocatedItem(error, ["items", i], [{ line }], item),
    error,
  );
}

/** Gathers items into calls. Before an error is passed on, the items before it are. */
async function* inBatches(items: AsyncIterable<NumberedItem>): AsyncGenerator<NumberedItem[]> {
  let batch: NumberedItem[] = [];
  try {
    for await (const item of items) {
      batch.push(item);
      if (batch.length < itemsPerCall) continue;
      yield batch;
      batch = [];
    }
  } catch (error) {
    if (batch.length > 0) yield batch;
    throw error;
  }
  if (batch.length > 0) yield batch;
}

/** @param input would be empty before its first line is read where it is the same file */
function openOutput(path: string, input: string): { write(text: string): void } & Disposable {
  const encoder = new TextEncoder();
  if (path !== "-" && realPath(path) !== null && realPath(path) === realPath(input)) {
    const sentence = `${JSON.stringify(path)} is read and written: give another file for the scores.`;
    refuse("out.jsonl", path, "another file than in.jsonl", sentence);
  }
  const open = () => path === "-" ? null : Deno.openSync(path, { write: true, create: true, truncate: true });
  let file: Deno.FsFile | null;
  try {
    file = open();
  } catch (error) {
    const sentence = `${JSON.stringify(path)} cannot be written: ${(error as Error).message}`;
    return refuse("out.jsonl", path, "a file in a folder that is there, or - for stdout", sentence);
  }
  const sink = file ?? Deno.stdout;
  return {
    write(text) {
      let rest = encoder.encode(text);
      while (rest.length > 0) rest = rest.subarray(sink.writeSync(rest));
    },
    [Symbol.dispose]: () => file?.close(),
  };
}

/** Null where nothing is there, or it may not be looked at. */
function realPath(path: string): string | null {
  try {
    return Deno.realPathSync(path);
  } catch {
    return null;
  }
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}
