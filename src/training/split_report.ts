/** What was made of a split's rows, in few words. */
import type { TrainingSettings } from "../api/settings.ts";
import { boundedText } from "../bounded.ts";
import type { ModelConfig } from "../model/config.ts";
import { type LeftOut, LeftOutRows } from "../preference/left_out.ts";
import type { RowsReport } from "../preference/row_reader.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import type { Examples } from "./examples.ts";

/** What a split's sources have become. */
export interface SplitReport {
  readonly rows: number;
  /** The most frequent ones. */
  readonly shapes: RowsReport["shapes"];
  readonly left_out: LeftOut;
  readonly prompts_cut: number;
  readonly responses_cut: number;
  /** What the user may not have meant. */
  readonly warnings: readonly string[];
}

/** What the rows are for. */
interface Purpose {
  readonly config: ModelConfig;
  /** With the template that is used. */
  readonly tokenizer: Tokenizer;
  readonly settings: Pick<TrainingSettings, "max_length" | "max_prompt_length">;
}

const [MOST_SHAPES, MOST_CHARACTERS, MOST_NAME] = [10, 200, 60];

/** Puts together what was made of a split's sources. */
export function reportOf(examples: readonly Examples[], purpose: Purpose): SplitReport {
  const reports = examples.map(({ report }) => report);
  const shapes = new Map<string, number>();
  for (const { shape, rows } of reports.flatMap(({ shapes }) => shapes)) {
    shapes.set(shape, (shapes.get(shape) ?? 0) + rows);
  }
  const left_out = new LeftOutRows();
  for (const [i, report] of reports.entries()) {
    const { first, ...others } = report.left_out;
    const place = reports.length > 1 ? `data set ${i + 1}: ` : "";
    left_out.take({ ...others, first: first.map(({ row, reason }) => ({ row, reason: place + reason })) });
  }
  return {
    rows: total(reports, ({ rows }) => rows),
    shapes: [...shapes].slice(0, MOST_SHAPES)
      .map(([shape, rows]) => ({ shape: boundedText(shape, MOST_CHARACTERS), rows })),
    left_out: left_out.summary(),
    prompts_cut: total(examples, ({ prompts_cut }) => prompts_cut),
    responses_cut: total(examples, ({ responses_cut }) => responses_cut),
    warnings: [...ofColumns(reports), ...ofTools(reports, purpose), ...ofLengths(examples, purpose)],
  };
}

function ofColumns(reports: readonly RowsReport[]): string[] {
  const names = (of: (report: RowsReport) => readonly string[]) =>
    [...new Set(reports.flatMap(of))].map((name) => boundedText(name, MOST_NAME));
  const unused = names(({ unused }) => unused);
  const unread = names(({ unread }) => unread);
  const identical = total(reports, ({ identical }) => identical);
  const said: string[] = [];
  if (unused.length > 0) {
    said.push(`${some(unused, "column holds", "columns hold")} text that is not used: ${unused.join(", ")}.`);
  }
  if (unread.length > 0) {
    said.push(`${some(unread, "column is", "columns are")} not read: ${unread.join(", ")}.`);
  }
  if (identical > 0) {
    said.push(
      `in ${identical} of ${total(reports, ({ rows }) => rows)} rows chosen and rejected are the same.`,
    );
  }
  return said;
}

function ofTools(reports: readonly RowsReport[], { tokenizer }: Purpose): string[] {
  const withTools = total(reports, ({ with_tools }) => with_tools);
  if (withTools === 0 || tokenizer.chatTemplate?.includes("tools")) return [];
  return [`${withTools} rows have tools, and the chat template has no place for them.`];
}

function ofLengths(examples: readonly Examples[], { config, settings }: Purpose): string[] {
  const prompts = total(examples, ({ prompts_cut }) => prompts_cut);
  const responses = total(examples, ({ responses_cut }) => responses_cut);
  if (prompts + responses === 0) return [];
  const { max_length, max_prompt_length } = settings;
  const longest = Math.max(...examples.map(({ lengths }) => lengths.whole.max));
  const fits = longest <= config.context_length;
  return [
    `${prompts} prompts and the responses of ${responses} rows were cut to fit max_length ${max_length} ` +
    `(max_prompt_length ${max_prompt_length}). ` +
    (fits
      ? `max_length ${longest} would keep them whole.`
      : `The longest row takes ${longest} tokens, more than the model's context of ${config.context_length}.`),
  ];
}

function total<T>(list: readonly T[], of: (one: T) => number): number {
  return list.reduce((sum, one) => sum + of(one), 0);
}

function some(list: readonly unknown[], one: string, more: string): string {
  return list.length === 1 ? `a ${one}` : more;
}
