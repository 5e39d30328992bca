/** What a row says before its responses, by whatever columns a data set keeps it in. */
import { isDeepStrictEqual } from "node:util";
import { InputError } from "../../errors.ts";
import { isObject } from "../../json.ts";
import type { Message, Text } from "../rows.ts";
import type { Columns } from "./columns.ts";
import { readTurns, takeString, takeText, turnOf, unlike } from "./turns.ts";

/** Columns with the prompt as it is: a string is plain text, joined with the response and not templated. */
const PLAIN = ["prompt"];
/** Columns with a user's turn, or with turns. */
const ASKED = [
  "question",
  "instruction",
  "query",
  "problem",
  "input",
  "inputs",
  "messages",
  "conversations",
  "conversation",
  "context",
  "history",
];
/** Columns with what an instruction is about. */
const FURTHER = ["input", "context"];
/** Columns with what the conversation is told first. */
const SYSTEM = ["system", "system_prompt", "system_message"];

/** Every column that a prompt may be read from. */
export const PROMPT_COLUMNS: readonly string[] = [...SYSTEM, ...PLAIN, ...ASKED];

/**
 * Reads what stands before the responses.
 *
 * @param taken columns that are the responses' own
 * @returns null where no column says anything
 * @throws {InputError} where two columns could be the prompt, or one is neither text nor turns
 */
export function readPrompt(columns: Columns, taken: readonly string[]): Text | null {
  const name = promptColumn(columns, taken);
  if (name === null) {
    const system = readSystem(columns, taken);
    if (system.length > 0) throw missing(columns, "prompt");
    return null;
  }
  const asked = readAsked(columns, name, taken);
  const system = readSystem(columns, taken);
  if (typeof asked === "string") {
    const templated = name !== "prompt" || system.length > 0 ||
      SYSTEM.some((column) => isThere(columns, column, taken));
    return templated ? [...system, ...turnOf("user", asked)] : asked;
  }
  return withSystem(asked, system);
}

/** The column that should hold the prompt and is null in this row, where no other holds it. */
export function nullPrompt(columns: Columns, taken: readonly string[]): string | null {
  if (columns.isMapped("prompt") && columns.peek("prompt") === undefined) return null;
  return [...PLAIN, ...ASKED].find((name) =>
    columns.has(name) && columns.peek(name) === null && !taken.includes(name)
  ) ?? null;
}

/** @returns what a row without its prompt is refused with */
export function noPrompt(name: string, columns: Columns, what = "null"): InputError {
  return new InputError(
    (field) => `${field} is ${what}; the row's columns are ${columns.names.join(", ")}.`,
    {
      path: [name],
      value: null,
      accepted: 'a prompt, or dataset.columns {"prompt": null} where there is none',
    },
  );
}

/** @param where ends the sentence: when a row has no prompt */
export function unnamedPrompt(columns: Columns, where: string): InputError {
  const [first] = columns.unused;
  return new InputError(
    (place) =>
      `${place} has no column known as the prompt, but others with text: ${columns.unused.join(", ")}. ` +
      `Say which it is in dataset.columns, such as {"prompt": ${JSON.stringify(first)}}, or ` +
      `{"prompt": null} where ${where}.`,
    { value: columns.names, accepted: "a prompt, or dataset.columns" },
  );
}

/** The system turn that columns of its own hold; none where there is no such column or it is empty. */
export function readSystem(columns: Columns, taken: readonly string[]): Message[] {
  const name = SYSTEM.find((column) => isThere(columns, column, taken));
  if (name === undefined) return [];
  return turnOf("system", takeString(columns, name));
}

/** A conversation with a system turn in front, unless it has that one. @throws {InputError} where it has another */
export function withSystem(turns: readonly Message[], system: readonly Message[]): readonly Message[] {
  if (turns[0]?.role !== "system") return [...system, ...turns];
  if (system.length === 0 || system[0]!.content?.trim() === turns[0].content?.trim()) return turns;
  throw new InputError(
    (field) =>
      `${field} says other than the conversation's own system turn: dataset.columns {"system": null} leaves it out.`,
    { path: ["system"], value: system[0]!.content, accepted: "one system text" },
  );
}

/** A response that repeats the prompt's turns, less those. */
export function withoutPrompt(response: Text, prompt: readonly Message[]): Text {
  if (typeof response === "string") return response;
  const repeats = prompt.length > 0 && response.length > prompt.length &&
    prompt.every((turn, index) => isDeepStrictEqual(turn, response[index]));
  return repeats ? response.slice(prompt.length) : response;
}

/** The columns that a row might be read by and that do not say the same. @throws {InputError} with every reading */
function promptColumn(columns: Columns, taken: readonly string[]): string | null {
  const names = [...PLAIN, ...ASKED];
  const mapped = names.find((name) => columns.isMapped(name) && !taken.includes(name));
  if (mapped !== undefined) return columns.has(mapped) ? mapped : null;
  const there = names.filter((name) => isThere(columns, name, taken));
  const saying = there.filter((name) => columns.hasText(name) && !goesWith(name, there));
  const [first = null, ...others] = saying;
  const other = others.find((name) => !saysTheSame(columns.peek(first!), columns.peek(name)));
  if (other === undefined) return first ?? there.find((name) => !goesWith(name, there)) ?? null;
  throw new InputError(
    (place) =>
      `${place} could be read with the prompt from ${first} or from ${other}: ` +
      `say which in dataset.columns, such as {"prompt": ${JSON.stringify(other)}}, or ` +
      `{"instruction": ${JSON.stringify(first)}, "input": ${JSON.stringify(other)}} for one after the other.`,
    { value: [first, other], accepted: "one column that holds the prompt, or dataset.columns" },
  );
}

/** `input`, Dolly's `context` and `history` add to `instruction` and its like. */
function goesWith(name: string, there: readonly string[]): boolean {
  if (FURTHER.includes(name)) return there.includes("instruction");
  return name === "history" &&
    ["instruction", "query", "prompt", "input"].some((asked) => there.includes(asked));
}

function readAsked(columns: Columns, name: string, taken: readonly string[]): Text {
  const value = columns.take(name);
  if (name === "input" && isObject(value) && "messages" in value) {
    return readTurns(value["messages"], [name, "messages"]).turns;
  }
  if (name === "input" && isObject(value)) {
    const accepted = "a list of {role, content}";
    throw unlike("a list of messages", [name, "messages"], value["messages"], accepted);
  }
  if (name === "question" && isObject(value) && typeof value["full_text"] === "string") { // webgpt_comparisons
    columns.drop(name, value, "full_text");
    return value["full_text"];
  }
  let text = takeText(columns, name);
  if (typeof text !== "string") return text;
  if (name === "instruction") {
    const further = FURTHER.filter((column) => isThere(columns, column, taken))
      .map((column) => takeString(columns, column));
    text = [text, ...further].filter((part) => part.trim() !== "").join("\n");
  }
  const history = isThere(columns, "history", taken) && goesWith("history", [name])
    ? columns.take("history")
    : null;
  if (history == null || (Array.isArray(history) && history.length === 0)) return text;
  return [...readHistory(history), ...turnOf("user", text)];
}

/** Turns of before as pairs of what was asked and what was answered. */
function readHistory(history: unknown): Message[] {
  const pairs = Array.isArray(history) ? history : [history];
  if (
    pairs.every((pair) =>
      Array.isArray(pair) && pair.length === 2 && pair.every((text) => typeof text === "string")
    )
  ) {
    return pairs.flatMap(([asked, answered]) => [
      { role: "user", content: asked },
      { role: "assistant", content: answered },
    ]);
  }
  return [...readTurns(history, ["history"]).turns];
}

function missing(columns: Columns, name: string): InputError {
  return new InputError(
    (field) => `${field} is empty; the row's columns are ${columns.names.join(", ")}.`,
    { path: [name], value: columns.names, accepted: "a column that holds the prompt, or dataset.columns" },
  );
}

function isThere(columns: Columns, name: string, taken: readonly string[]): boolean {
  return columns.has(name) && columns.peek(name) != null && !taken.includes(name);
}

/** A string, and a conversation whose one user turn it is, ask the same. */
function saysTheSame(a: unknown, b: unknown): boolean {
  return isDeepStrictEqual(askedBy(a), askedBy(b));
}

function askedBy(value: unknown): unknown {
  if (typeof value === "string") return value.trim();
  if (!Array.isArray(value) || value.length !== 1 || !isObject(value[0])) return value;
  const text = value[0]["content"] ?? value[0]["value"];
  return typeof text === "string" ? text.trim() : value;
}
