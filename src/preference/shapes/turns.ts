/**
 * Texts and conversations as data sets write them: strings, lists of `{role, content}` or `{from, value}`, one message
 * object, an object of lists, lists of content parts, or any of these as JSON text in a string; a list of one string is it.
 *
 * @module
 */
import { InputError, mustBe, type Path } from "../../errors.ts";
import { isObject } from "../../json.ts";
import type { Message, Text } from "../rows.ts";
import type { Columns } from "./columns.ts";

/** What data sets call the sides of a conversation. */
const ROLES: Readonly<Record<string, string>> = {
  human: "user",
  prompter: "user",
  gpt: "assistant",
  chatgpt: "assistant",
  bot: "assistant",
  chatbot: "assistant",
  model: "assistant",
  observation: "tool",
  function: "tool",
  function_response: "tool",
};

/** A list of turns, among them some that are known to be no ones to learn from. */
export interface Turns {
  readonly turns: readonly Message[];
  /** Indices of turns with weight 0. */
  readonly unweighted: readonly number[];
}

/**
 * Reads a text: a string as it is, or turns.
 *
 * @param path where it stands in its row
 * @param onJson called where turns are written as JSON text
 * @throws {InputError} at the part that is neither
 */
export function readText(value: unknown, path: Path, onJson: () => void = () => {}): Text {
  if (typeof value === "string") {
    const turns = jsonTurns(value, path);
    if (turns === null) return value;
    onJson();
    return readTurns(turns, path).turns;
  }
  if (Array.isArray(value) && value.length === 1 && typeof value[0] === "string") return value[0];
  return readTurns(value, path).turns;
}

/** A column's text, which is used. @throws {InputError} as {@link readText} */
export function takeText(columns: Columns, name: string): Text {
  return readText(columns.take(name), [name], () => columns.note(`${name} as JSON text`));
}

/** A column's string, which is used. @throws {InputError} where it is something else */
export function takeString(columns: Columns, name: string): string {
  const value = columns.take(name);
  if (typeof value === "string") return value;
  throw unlike("a string", [name], value);
}

/** Reads turns. @throws {InputError} at the part that is no turn */
export function readTurns(value: unknown, path: Path): Turns {
  const json = typeof value === "string" ? jsonTurns(value, path) : value;
  const list = isObject(json) ? isTurn(json) ? [json] : turnsOfLists(json) : json;
  if (!Array.isArray(list)) {
    throw unlike("a string or a list of messages", path, value, "a string or a list of {role, content}");
  }
  const turns = list.map((turn, index) => readTurn(turn, [...path, index]));
  const unweighted = list.flatMap((turn, index) =>
    isObject(turn) && WEIGHTS.some((name) => isNone(turn[name])) ? [index] : []
  );
  return { turns, unweighted };
}

/** What says that a turn is not to be learned from: OpenAI's name, and those of training tools. */
const WEIGHTS = ["weight", "train", "loss"];

/** Turns that a table keeps as a list a key: `{role: ["user", …], content: ["q", …]}`. */
function turnsOfLists(value: Record<string, unknown>): unknown {
  const lists = Object.entries(value).filter(([, list]) => list != null);
  const roles = value["role"] ?? value["from"];
  if (
    !Array.isArray(roles) || !lists.every(([, list]) => Array.isArray(list) && list.length === roles.length)
  ) {
    return value;
  }
  return roles.map((_, turn) =>
    Object.fromEntries(lists.map(([name, list]) => [name, (list as unknown[])[turn]]))
  );
}

/** A weight of nothing, be it written as text. */
function isNone(weight: unknown): boolean {
  return weight === false || weight === 0 || typeof weight === "string" && /^\s*0(\.0*)?\s*$/.test(weight);
}

/** A conversation's turn of a role, unless there is nothing to say. */
export function turnOf(role: string, content: string): Message[] {
  return content.trim() === "" ? [] : [{ role, content }];
}

/** What a value is, for a sentence that refuses it. */
export function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  if (typeof value === "number") return `number ${value}`; // NaN is none of JSON's
  return `${typeof value} ${JSON.stringify(value)?.slice(0, 40)}`;
}

/** What a row's value is refused with that is of another kind. */
export function unlike(what: string, path: Path, value: unknown, accepted = what): InputError {
  return mustBe(what, path, value, accepted, describe(value));
}

function readTurn(value: unknown, path: Path): Message {
  if (!isObject(value)) {
    throw unlike("a message", path, value, "{role: string, content: string}");
  }
  const turn = withCalls(value, path);
  const roleKey = "from" in turn && !("role" in turn) ? "from" : "role";
  const contentKey = "value" in turn && !("content" in turn) || roleKey === "from" && !("content" in turn)
    ? "value"
    : "content";
  const { [roleKey]: role, [contentKey]: content } = turn;
  if (typeof role !== "string") throw noString(value, role, [...path, roleKey]);
  if (role === "function_call") return toolCall(content, [...path, contentKey]);
  const message: Record<string, unknown> = {}; // in the keys' own order, which a template may print
  for (const [key, given] of Object.entries(turn)) {
    if (key === roleKey) message["role"] = roleOf(role);
    else if (key === contentKey) {
      message["content"] = given === null && hasCalls(turn) ? null : contentOf(given, [...path, key], value);
    } // A table gives every turn the keys of all, null where a turn has none.
    else if (!WEIGHTS.includes(key) && given != null) message[key] = given;
  }
  if (!(contentKey in turn) && !hasCalls(turn)) throw noString(value, content, [...path, contentKey]);
  return message as unknown as Message;
}

/** A turn whose calls are a list: they may be JSON text, or the one `function_call` that came before `tool_calls`. */
function withCalls(turn: Record<string, unknown>, path: Path): Record<string, unknown> {
  const { function_call: one, ...others } = turn;
  if (one != null && one !== "" && !hasCalls(turn)) {
    const { tool_calls } = toolCall(one, [...path, "function_call"]);
    return { ...others, tool_calls };
  }
  const calls = turn["tool_calls"];
  if (typeof calls !== "string") return turn;
  if (calls.trim() === "") return { ...turn, tool_calls: null };
  const read = fromJson(calls);
  if (read === null || Array.isArray(read)) return { ...turn, tool_calls: read };
  throw new InputError((field) => `${field} must be a list of calls, or JSON text of one.`, {
    path: [...path, "tool_calls"],
    value: calls,
    accepted: "a list of {type, function}",
  });
}

/** A role by its usual name, however it is written; one that is not known stays for the template to judge. */
function roleOf(role: string): string {
  const small = role.toLowerCase();
  return ROLES[small] ?? (KNOWN.has(small) ? small : role);
}

/** Types of a part that is text. */
const TEXTS: readonly unknown[] = ["text", "input_text", "output_text"];

/** A string, or parts of text put together as chat templates do. */
function contentOf(content: unknown, path: Path, turn: unknown): string {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) throw noString(turn, content, path);
  return content.map((part, index) => {
    if (typeof part === "string") return part;
    const { type, text } = isObject(part) ? part : {};
    if (typeof text === "string" && (type === undefined || TEXTS.includes(type))) return text;
    throw new InputError(
      (field) =>
        `${field} is a part of type ${JSON.stringify(type ?? null)}; only text is learned from and scored.`,
      { path: [...path, index], value: part, accepted: 'parts {type: "text", text: string}' },
    );
  }).join("");
}

/** ShareGPT's way to write a call. */
function toolCall(content: unknown, path: Path): Message & { readonly tool_calls: readonly unknown[] } {
  const call = fromJson(content);
  const calls = Array.isArray(call) ? call : [call];
  if (!calls.every((one) => isObject(one) && typeof one["name"] === "string")) {
    throw new InputError(
      (field) => `${field} is a function's call, and must be JSON text of {name, arguments}.`,
      { path, value: content, accepted: "{name, arguments} as JSON text" },
    );
  }
  return {
    role: "assistant",
    content: "",
    tool_calls: calls.map((one) => ({ type: "function", function: one })),
  };
}

/** What a JSON text holds; of anything else the value itself. */
export function fromJson(value: unknown): unknown {
  try {
    return typeof value === "string" ? JSON.parse(value) : value;
  } catch {
    return value;
  }
}

/** The turns that a string holds as JSON text, in whole; null where it is a text of its own. */
function jsonTurns(text: string, path: Path): unknown {
  if (!/^\s*(\[\s*)?\{\s*["']/.test(text) || !/["'](role|from)["']\s*:/.test(text)) return null;
  try {
    const value = JSON.parse(text);
    return [value].flat().every(isTurn) ? value : null;
  } catch {
    if (!/^\s*(\[\s*)?\{\s*'/.test(text) || !PRINTED.every((key) => key.test(text))) return null;
    throw new InputError((field) => `${field} is a list of messages as Python prints it, which is no JSON.`, {
      path,
      value: text,
      accepted: "a list of messages, or JSON text of one",
    });
  }
}

/** Keys of a message as Python prints them; an answer may be a dict with a role of its own. */
const PRINTED = [
  /'(role|from)'\s*:\s*'(system|user|assistant|human|gpt|tool)'/,
  /'(content|value)'\s*:\s*(['"]|None)/,
];

const KNOWN = new Set([
  "system",
  "developer",
  "user",
  "assistant",
  "tool",
  "function_call",
  ...Object.keys(ROLES),
]);

function isTurn(value: unknown): boolean {
  if (!isObject(value)) return false;
  const role = value["role"] ?? value["from"];
  return typeof role === "string" && KNOWN.has(role.toLowerCase()) &&
    ("content" in value || "value" in value || hasCalls(value));
}

function hasCalls(turn: Record<string, unknown>): boolean {
  return Array.isArray(turn["tool_calls"]) && turn["tool_calls"].length > 0;
}

function noString(turn: unknown, value: unknown, path: Path): InputError {
  const given = isObject(turn) ? describe(value) : "missing";
  return new InputError((field) => `${field} must be a string; it is ${given}.`, {
    path,
    value: turn,
    accepted: "{role: string, content: string}",
  });
}
