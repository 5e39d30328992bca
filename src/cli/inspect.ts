/** `main.ts inspect`: what a job's rows become, before anything is trained. */
import { styleText } from "node:util";
import type { Inspection, SplitInspection } from "../api/inspection.ts";
import { COMMANDS } from "../commands.ts";
import { type Environment, readConfig } from "../config.ts";
import { resolveInspection } from "../jobs/files.ts";
import { withThread } from "../text/thread.ts";
import { parseCommand } from "./_arguments.ts";
import { checkRoot } from "./_command.ts";
import { readJob } from "./_job_file.ts";
import { openHub } from "./_hub.ts";

/**
 * Reads and tokenises a job file's rows as training does, and shows the first ones with their scored tokens marked, what
 * is left out and cut, and how long the rows are. Neither weights nor a device are needed.
 *
 * @param args `[--json] job.json`
 * @param environment where settings are read from
 * @returns the exit code 0
 * @throws InputError where training would fail by its rows
 */
export async function inspect(args: readonly string[], environment: Environment = Deno.env): Promise<number> {
  const parsed = parseCommand("inspect", COMMANDS.inspect, args);
  if (parsed === null) return 0;
  const { values, files } = parsed;
  const config = readConfig(environment);
  await checkRoot(config);
  const { spec } = await readJob(files[0] ?? "");
  const request = await resolveInspection({ ...config, hub: openHub(config) }, spec);
  const found = await withThread((thread) => thread.call("inspect", request));
  console.log(values.json ? JSON.stringify(found, null, 2) : inspectionText(found, Deno.stdout.isTerminal()));
  return 0;
}

/**
 * An inspection as text.
 *
 * @param colours whether what is scored is coloured; else it stands between ⟦ and ⟧
 */
export function inspectionText(
  { train, eval: evaluation, epoch_examples, eval_examples, warnings, ...limits }: Inspection,
  colours: boolean,
): string {
  const parts = [splitText("train", train, limits, colours)];
  if (evaluation !== null) parts.push(splitText("eval", evaluation, limits, colours));
  parts.push(
    [
      `an epoch has ${epoch_examples} examples, the evaluation ${eval_examples}`,
      ...warnings.map((warning) => `  warning: ${warning}`),
    ].join("\n"),
  );
  return parts.join("\n\n");
}

function splitText(
  name: string,
  split: SplitInspection,
  { max_length, max_prompt_length }: Pick<Inspection, "max_length" | "max_prompt_length">,
  colours: boolean,
): string {
  const mark = (text: string) => colours ? styleText("green", text, { validateStream: false }) : `⟦${text}⟧`;
  const { prompt_length: prompt, whole_length: whole, left_out } = split;
  const rows = split.first.map(({ row, prompt, responses }) =>
    [
      `row ${row}`,
      prompt,
      ...responses.map(({ unscored, scored, scored_tokens }) =>
        `  → ${unscored}${mark(scored)} (${scored_tokens} tokens)`
      ),
    ].join("\n")
  );
  return [
    `${name}: ${split.rows} rows make ${split.examples} ${split.examples === 1 ? "example" : "examples"}`,
    ...split.shapes.map(({ shape, rows }) => `  ${rows} read as ${shape}`),
    `  left out ${left_out.count}, prompts cut ${split.prompts_cut}, responses cut in ${split.responses_cut} rows`,
    ...left_out.reasons.map(({ reason, count }) => `    ${count}: ${reason}`),
    ...left_out.first.map(({ row, reason }) => `    row ${row}: ${reason}`),
    `  tokens            p50    p90    p99    max`,
    `  prompt      ${columns(prompt)}   max_prompt_length ${max_prompt_length}`,
    `  with answer ${columns(whole)}   max_length ${max_length}`,
    ...split.warnings.map((warning) => `  warning: ${warning}`),
    "",
    ...rows,
  ].join("\n");
}

function columns({ p50, p90, p99, max }: SplitInspection["prompt_length"]): string {
  return [p50, p90, p99, max].map((length) => String(length).padStart(9).slice(-7)).join("");
}
