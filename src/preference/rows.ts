/**
 * Rows of a preference or imitation data set, as users have them, made into one shape. docs/data.md has what is known and
 * what is made of it; no text that a row holds is dropped without a word.
 *
 * @module
 */
import { InputError, type Path } from "../errors.ts";
import { isDeeper, isObject, mostRowDepth } from "../json.ts";
import { ANSWER_COLUMNS } from "./shapes/answer_shapes.ts";
import { type ColumnNames, Columns } from "./shapes/columns.ts";
import { COMPLETION_COLUMNS, COMPLETION_SHAPES, isLabelled, readCompletion } from "./shapes/completions.ts";
import { type PairChoice, PREFERENCE_SHAPES, readPairs } from "./shapes/pairs.ts";
import { PROMPT_COLUMNS } from "./shapes/prompts.ts";
import { fromJson, turnOf, unlike } from "./shapes/turns.ts";

/** One turn of a conversation. Keys beyond these two (`name`, `tool_calls`, …) reach the chat template as they are. */
export interface Message {
  readonly role: string;
  /** null or missing only beside `tool_calls`. */
  readonly content?: string | null | undefined;
}

/** Plain text, or turns that the model's chat template turns into text. */
export type Text = string | readonly Message[];

/** One prompt with its responses, before template and tokens. */
export interface Comparison {
  /** Number of the row in its file (its line) or list, from 1. */
  readonly row: number;
  /** Shared by all responses; an empty string where there is none. */
  readonly prompt: Text;
  /** A preference row has [chosen, rejected], an sft row [completion], a scoring item its candidates. */
  readonly responses: readonly Text[];
  /** The responses' ranks, from 1, among more answers that the row has. */
  readonly ranks?: readonly number[];
  /** Functions that the template is told of, as JSON schemas. */
  readonly tools?: readonly unknown[];
  /** Variables that the template gets beside the job's own. */
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>>;
}

/** What a row is for: a chosen and a rejected response, or one completion to imitate. */
export type RowKind = "preference" | "sft";

/** How rows are read. */
export interface RowOptions {
  readonly kind: RowKind;
  /** Which column is which, where their names do not say it. */
  readonly columns?: ColumnNames | undefined;
  /** Which pairs a row of many ranked answers makes. */
  readonly pairs?: PairChoice | undefined;
}

/** What was made of a row. */
export interface RowReading {
  /** None where the row is one that the method does not learn from. */
  readonly comparisons: readonly Comparison[];
  /** Why there is none. */
  readonly skipped?: string;
  /** The columns that were used, and how. */
  readonly shape: string;
  /** Columns that hold text and were not used. */
  readonly unused: readonly string[];
}

/** Columns beside prompt and responses. */
const EXTRAS = ["tools", "chat_template_kwargs"];

/** Every column that a row may be read from. */
export const knownColumns: readonly string[] = [
  ...new Set([...PROMPT_COLUMNS, ...ANSWER_COLUMNS, ...COMPLETION_COLUMNS, ...EXTRAS]),
];

/**
 * Reads one row.
 *
 * @param value The row as parsed.
 * @param row Its number, from 1.
 * @throws {InputError} naming the row's field
 *
 * @example An implicit prompt
 * ```ts
 * import assert from "node:assert/strict";
 * import { readRow } from "./rows.ts";
 * const user = { role: "user", content: "2 + 2?" };
 * const { comparisons } = readRow({
 *   chosen: [user, { role: "assistant", content: "4" }],
 *   rejected: [user, { role: "assistant", content: "5" }],
 * }, 1, { kind: "preference" });
 * assert.deepEqual(comparisons[0]?.prompt, [user]);
 * ```
 */
export function readRow(
  value: unknown,
  row: number,
  { kind, columns: names, pairs }: RowOptions,
): RowReading {
  const accepted = kind === "preference" ? PREFERENCE_SHAPES : COMPLETION_SHAPES;
  if (!isObject(value)) {
    throw unlike("an object", [], value, accepted);
  }
  checkDepth(value);
  const columns = new Columns(value, names);
  const extras = readExtras(columns);
  checkDepth(extras); // JSON text
  const made = kind === "preference" ? pairsOf(columns, pairs) : completionOf(columns);
  if (made === null) throw unknownShape(columns, kind);
  const { skipped, comparisons } = made;
  return {
    comparisons: comparisons.map((comparison) => ({ row, ...asConversation(comparison, extras), ...extras })),
    ...(skipped === undefined ? {} : { skipped }),
    shape: columns.shape(PROMPT_COLUMNS),
    unused: columns.unused,
  };
}

function checkDepth(value: unknown): void {
  if (!isDeeper(value, mostRowDepth)) return;
  throw new InputError((place) => `${place} is nested deeper than ${mostRowDepth} levels.`);
}

/** Tools are for a conversation: a prompt beside them is a user's turn. */
function asConversation(comparison: Omit<Comparison, "row">, { tools }: Extras): Omit<Comparison, "row"> {
  const { prompt } = comparison;
  if (tools === undefined || typeof prompt !== "string") return comparison;
  return { ...comparison, prompt: turnOf("user", prompt) };
}

type Extras = Pick<Comparison, "tools" | "chat_template_kwargs">;

type Made = { readonly comparisons: readonly Omit<Comparison, "row">[]; readonly skipped?: string };

function pairsOf(columns: Columns, choice: PairChoice | undefined): Made | null {
  const pairs = readPairs(columns, choice);
  if (pairs === null) return null;
  return pairs.length > 0
    ? { comparisons: pairs }
    : { comparisons: [], skipped: "no answer is better than another" };
}

function completionOf(columns: Columns): Made | null {
  const read = readCompletion(columns);
  if (read === null) return null;
  const { prompt, completion, desirable } = read;
  if (!desirable) {
    return { comparisons: [], skipped: "label is false: a completion that is not to be imitated" };
  }
  return { comparisons: [{ prompt, responses: [completion] }] };
}

function unknownShape(columns: Columns, kind: RowKind): InputError {
  const keys = columns.names;
  const [accepted, other] = kind === "preference"
    ? [
      PREFERENCE_SHAPES,
      isLabelled(columns) ? "a row of method kto, or of sft, which learns those with label true" : null,
    ]
    : [COMPLETION_SHAPES, columns.has("chosen") && columns.has("rejected") ? "a row of method simpo" : null];
  return new InputError(
    (place) =>
      `${place} must be ${accepted}, or another shape of docs/data.md, or dataset.columns must say which is which; its keys are ${
        keys.join(", ") || "none"
      }` +
      `${other === null ? "" : `: ${other}`}.`,
    { value: keys, accepted },
  );
}

function readExtras(columns: Columns): Extras {
  const inner = columns.peek("input");
  const [given, path]: [unknown, Path] = columns.has("tools")
    ? [columns.take("tools"), ["tools"]]
    : [isObject(inner) ? inner["tools"] : null, ["input", "tools"]];
  const tools = parsed(
    given,
    path,
    Array.isArray,
    "a list of functions as JSON schemas, or JSON text of one",
  );
  const kwargs = columns.has("chat_template_kwargs")
    ? parsed(columns.take("chat_template_kwargs"), ["chat_template_kwargs"], isObject, "an object")
    : null;
  return {
    ...(tools === null || tools.length === 0 ? {} : {
      tools: tools.map((tool, index) =>
        parsed(tool, [...path, index], isObject, "a function as a JSON schema")
      ),
    }),
    ...(kwargs === null ? {} : { chat_template_kwargs: kwargs }),
  };
}

/** A value that may be written as JSON text; null where there is none. */
function parsed<T>(
  value: unknown,
  path: Path,
  is: (value: unknown) => value is T,
  accepted: string,
): T | null {
  if (value == null || value === "") return null;
  const read = fromJson(value);
  if (is(read)) return read;
  if (read === null) return null;
  throw unlike(accepted, path, value);
}
