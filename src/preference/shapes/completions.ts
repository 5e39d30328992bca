/** An imitation row: a prompt and the completion to learn. */
import { InputError } from "../../errors.ts";
import { isObject } from "../../json.ts";
import type { Message, Text } from "../rows.ts";
import type { Columns } from "./columns.ts";
import {
  noPrompt,
  nullPrompt,
  readPrompt,
  readSystem,
  unnamedPrompt,
  withoutPrompt,
  withSystem,
} from "./prompts.ts";
import { describe, readTurns, takeString, takeText } from "./turns.ts";

/** A prompt with its completion. */
export interface Completion {
  readonly prompt: Text;
  readonly completion: Text;
  /** Whether it is to be learned; what a row with a `label` says. */
  readonly desirable: boolean;
}

/** What such a row is, for one that is not. */
export const COMPLETION_SHAPES = "{prompt, completion}, {messages} or {text}";

const COMPLETIONS = ["completion", "response", "output", "answer", "solution", "targets"];
/** What says whether a completion is desirable. */
const LABELS = ["label", "kto_tag"];
const CONVERSATIONS = ["messages", "conversations", "conversation"];

/** Every column that a completion may be read from. */
export const COMPLETION_COLUMNS: readonly string[] = [...COMPLETIONS, ...CONVERSATIONS, "text", ...LABELS];

/**
 * Reads an imitation row.
 *
 * @returns null where the row has no completion's column
 * @throws {InputError} where it could be read in two ways, or a column holds something else
 */
export function readCompletion(columns: Columns): Completion | null {
  const name = completionColumn(columns);
  if (name === null) return null;
  const desirable = readLabel(columns);
  if (name === "text") return { prompt: "", completion: takeString(columns, "text"), desirable };
  if (CONVERSATIONS.includes(name)) return { ...lastAnswer(columns, name), desirable };
  const completion = takeText(columns, name);
  const taken = [name, ...LABELS];
  const given = readPrompt(columns, taken);
  const missing = given === null ? nullPrompt(columns, taken) : null;
  if (missing !== null) throw noPrompt(missing, columns);
  if (Array.isArray(given) && given.length === 0) throw noPrompt("prompt", columns, "empty");
  const prompt = given ?? "";
  if (
    prompt === "" && columns.unused.length > 0 && columns.peek("prompt") !== "" && !columns.isMapped("prompt")
  ) {
    throw unnamedPrompt(columns, "there is none");
  }
  return {
    prompt,
    completion: typeof prompt === "string" ? completion : withoutPrompt(completion, prompt),
    desirable,
  };
}

/** Whether a row has what the unpaired methods read: a completion and whether it is desirable. */
export function isLabelled(columns: Columns): boolean {
  return LABELS.some((name) => columns.has(name)) &&
    [...COMPLETIONS, ...CONVERSATIONS].some((name) => columns.has(name));
}

function completionColumn(columns: Columns): string | null {
  const there = COMPLETION_COLUMNS.filter((name) => !LABELS.includes(name) && columns.has(name));
  const mapped = there.filter((name) => columns.isMapped(name));
  if (mapped.length > 0) return mapped[0]!;
  const saying = there.filter((name) => columns.hasText(name));
  // A completion's prompt may be turns of such a name.
  const [answered, ...conversations] = saying.filter((name) => CONVERSATIONS.includes(name))
    .map((name) => ({ name, answer: answerIn(columns.peek(name)) }))
    .filter(({ answer }) => answer !== null);
  const completions = saying.filter((name) => !CONVERSATIONS.includes(name))
    .filter((name) => !isRepeated(columns.peek(name), answered?.answer));
  const [first = saying[0] ?? there[0] ?? null, ...others] = [
    ...completions,
    ...answered === undefined ? [] : [answered.name],
    ...conversations.filter(({ answer }) => answer !== answered?.answer).map(({ name }) => name),
  ];
  // Alpaca's `text` is instruction and output in one.
  const second = others.find((name) =>
    name !== "text" || !isRepeated(columns.peek(first!), columns.peek(name))
  );
  if (second === undefined) return first;
  throw new InputError(
    (place) =>
      `${place} could be read with the completion from ${first} or from ${second}: ` +
      `say which in dataset.columns, such as {${JSON.stringify(nameFor(second))}: ${
        JSON.stringify(second)
      }}.`,
    { value: columns.names, accepted: "one column that holds the completion, or dataset.columns" },
  );
}

/** What a column is mapped to to be read as what it is. */
function nameFor(name: string): string {
  return CONVERSATIONS.includes(name) ? name : "completion";
}

/** What a whole conversation is answered with in the end; null for a prompt, and for what is no conversation. */
function answerIn(value: unknown): string | null {
  const last = Array.isArray(value) ? value.at(-1) : null;
  if (!isObject(last)) return null;
  const turn = readLast(last);
  return turn?.role === "assistant" ? turn.content ?? "" : null;
}

function readLast(turn: Record<string, unknown>): Message | undefined {
  try {
    return readTurns([turn], []).turns[0];
  } catch (error) {
    if (error instanceof InputError) return undefined; // said where the column is read
    throw error;
  }
}

function isRepeated(text: unknown, within: unknown): boolean {
  return typeof text === "string" && typeof within === "string" && within.includes(text.trim());
}

/** The last answer of a conversation that is to be learned, after the turns before it. */
function lastAnswer(
  columns: Columns,
  name: string,
): { prompt: readonly Message[]; completion: readonly Message[] } {
  const { turns, unweighted } = readTurns(columns.take(name), [name]);
  const last = turns.findLastIndex(({ role }, index) => role === "assistant" && !unweighted.includes(index));
  if (last < 0) {
    throw new InputError((field) => `${field} must hold an assistant turn to learn from.`, {
      path: [name],
      value: turns.map(({ role }) => role),
      accepted: "at least one message of role assistant, with a weight other than 0",
    });
  }
  columns.note("its last answer");
  // Turns of the assistant one after another are one answer: a prompt that ends with one would be gone on with.
  let first = last;
  while (first > 0 && turns[first - 1]?.role === "assistant") first--;
  if (unweighted.some((index) => index >= first && index < last)) {
    throw new InputError(
      (field) => `${field} has a turn of weight 0 right before the answer, of the same side.`,
      { path: [name], accepted: "an answer of which every turn has a weight other than 0" },
    );
  }
  const prompt = withSystem(turns.slice(0, first), readSystem(columns, [name]));
  if (prompt.length === 0) {
    throw new InputError((field) => `${field} has no turn before its answer.`, {
      path: [name],
      value: turns.map(({ role }) => role),
      accepted: "a user's turn before the assistant's",
    });
  }
  return { prompt, completion: turns.slice(first, last + 1) };
}

function readLabel(columns: Columns): boolean {
  if (!isLabelled(columns)) return true;
  const name = LABELS.find((label) => columns.has(label))!;
  const label = columns.take(name);
  const said = typeof label === "object" ? "" : String(label).trim().toLowerCase();
  if (/^(true|1(\.0*)?)$/.test(said)) return true;
  if (/^(false|0(\.0*)?)$/.test(said)) return false;
  throw new InputError(
    (field) =>
      `${field} must say whether the completion is desirable, not ${describe(label)}; ` +
      `dataset.columns {"${name}": null} where it says something else.`,
    { path: [name], value: label, accepted: 'true or false, or dataset.columns {"label": null}' },
  );
}
