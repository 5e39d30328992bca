/**
 * Rows of a preference or imitation data set, as users have them, made into one shape.
 *
 * Preference rows: `{prompt, chosen, rejected}` as strings or message lists; `{chosen, rejected}` that hold the whole
 * conversation (implicit prompt); OpenAI's `{input: {messages}, preferred_output, non_preferred_output}`.
 * Sft rows: `{prompt, completion}`, `{messages}` (the last assistant turn is the completion) or `{text}`.
 * Other columns are ignored.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { InputError, type Path } from "../errors.ts";
import { isObject } from "../json.ts";
import { commonTextPrefix } from "./_common_prefix.ts";

/** One turn of a conversation. Keys beyond these two (`name`, `tool_calls`, …) reach the chat template as they are. */
export interface Message {
  readonly role: string;
  readonly content: string;
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
}

/** What a row is for: a chosen and a rejected response, or one completion to imitate. */
export type RowKind = "preference" | "sft";

const SHAPES: Record<RowKind, string> = {
  preference:
    "{prompt, chosen, rejected}, {chosen, rejected} or {input, preferred_output, non_preferred_output}",
  sft: "{prompt, completion}, {messages} or {text}",
};

/**
 * Reads one row.
 *
 * @param value The row as parsed from JSON.
 * @param row Its number, from 1, for messages to the user.
 * @param kind What the row is for.
 * @throws InputError naming the row's number and field.
 *
 * @example An implicit prompt
 * ```ts
 * import { parseRow } from "./rows.ts";
 * const user = { role: "user", content: "2 + 2?" };
 * const comparison = parseRow({
 *   chosen: [user, { role: "assistant", content: "4" }],
 *   rejected: [user, { role: "assistant", content: "5" }],
 * }, 1, "preference");
 * console.log(comparison.prompt); // [{ role: "user", content: "2 + 2?" }]
 * ```
 */
export function parseRow(value: unknown, row: number, kind: RowKind): Comparison {
  if (!isObject(value)) {
    throw new InputError((place) => `${place} must be an object, not ${describe(value)}.`, {
      path: [],
      value,
      accepted: SHAPES[kind],
    });
  }
  if (Array.isArray(value.tools) && value.tools.length > 0) {
    throw withTools(["tools"]);
  }
  const comparison = kind === "preference" ? preferenceRow(value) : sftRow(value);
  if (comparison !== null) return { row, ...comparison };
  const keys = Object.keys(value);
  throw new InputError(
    (place) =>
      `${place} must be ${SHAPES[kind]}; its keys are ${keys.length > 0 ? keys.join(", ") : "none"}.`,
    { path: [], value: keys, accepted: SHAPES[kind] },
  );
}

/**
 * Reads one prompt or response: a string, or a list of `{role, content}`.
 *
 * @param path Where it stands in its row.
 * @throws InputError naming the field.
 */
function parseText(value: unknown, path: Path): Text {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) {
    throw new InputError(
      (field) => `${field} must be a string or a list of messages, not ${describe(value)}.`,
      {
        path,
        value,
        accepted: "a string or a list of {role, content}",
      },
    );
  }
  value.forEach((message, index) => {
    for (const key of ["role", "content"]) {
      if (!isObject(message) || typeof message[key] !== "string") {
        const given = isObject(message) ? describe(message[key]) : "missing";
        throw new InputError((field) => `${field} must be a string; it is ${given}.`, {
          path: [...path, index, key],
          value: message,
          accepted: "{role: string, content: string}",
        });
      }
    }
  });
  return value as Message[];
}

function preferenceRow(value: Record<string, unknown>): Omit<Comparison, "row"> | null {
  if ("preferred_output" in value && "non_preferred_output" in value && "input" in value) {
    return openAiRow(value);
  }
  if (!("chosen" in value && "rejected" in value)) return null;
  const chosen = parseText(value.chosen, ["chosen"]);
  const rejected = parseText(value.rejected, ["rejected"]);
  const given = value.prompt === undefined || value.prompt === null
    ? null
    : parseText(value.prompt, ["prompt"]);

  if (typeof chosen === "string" && typeof rejected === "string") {
    return given === null ? splitStrings(chosen, rejected) : { prompt: given, responses: [chosen, rejected] };
  }
  if (typeof chosen === "string" || typeof rejected === "string") {
    if (typeof given === "object" && given !== null) return { prompt: given, responses: [chosen, rejected] };
    throw new InputError("chosen and rejected must both be strings or both be message lists.", {
      path: ["rejected"],
      value: rejected,
    });
  }
  if (given === null || given === "") return splitConversations(chosen, rejected);
  if (typeof given === "string") {
    if (!startsConversation(chosen) && !startsConversation(rejected)) {
      return { prompt: given, responses: [chosen, rejected] };
    }
    // ultrafeedback_binarized and its kin repeat the first user turn in a `prompt` column.
    const whole = splitConversations(chosen, rejected);
    if (!whole.prompt.some((turn) => turn.content.trim() === given.trim())) {
      throw new InputError((field) => `${field} is not a turn that chosen and rejected share.`, {
        path: ["prompt"],
        value: given,
        accepted: "the shared user turn, a message list, or no prompt",
      });
    }
    return whole;
  }
  return { prompt: given, responses: [withoutPrompt(chosen, given), withoutPrompt(rejected, given)] };
}

function openAiRow(value: Record<string, unknown>): Omit<Comparison, "row"> {
  const input = value.input;
  const messages = isObject(input) ? input.messages : undefined;
  if (isObject(input) && Array.isArray(input.tools) && input.tools.length > 0) {
    throw withTools(["input", "tools"]);
  }
  return {
    prompt: parseMessages(messages, ["input", "messages"]),
    responses: [
      parseMessages(value.preferred_output, ["preferred_output"]),
      parseMessages(value.non_preferred_output, ["non_preferred_output"]),
    ],
  };
}

function sftRow(value: Record<string, unknown>): Omit<Comparison, "row"> | null {
  if ("completion" in value) {
    const prompt = parseText(value.prompt ?? "", ["prompt"]);
    const completion = parseText(value.completion, ["completion"]);
    const response = typeof prompt === "string" || typeof completion === "string"
      ? completion
      : withoutPrompt(completion, prompt);
    return { prompt, responses: [response] };
  }
  if ("messages" in value) {
    const messages = parseMessages(value.messages, ["messages"]);
    const last = messages.findLastIndex((message) => message.role === "assistant");
    if (last < 0) {
      throw new InputError((field) => `${field} must hold an assistant turn to learn from.`, {
        path: ["messages"],
        value: messages.map((message) => message.role),
        accepted: "at least one message of role assistant",
      });
    }
    return { prompt: messages.slice(0, last), responses: [messages.slice(last, last + 1)] };
  }
  if ("text" in value) {
    if (typeof value.text !== "string") {
      throw new InputError((field) => `${field} must be a string, not ${describe(value.text)}.`, {
        path: ["text"],
        value: value.text,
        accepted: "a string",
      });
    }
    return { prompt: "", responses: [value.text] };
  }
  return null;
}

/**
 * Whole texts without a prompt: what both begin with is the prompt, but for a space right before the difference, which
 * most tokenizers write into the next word's token. TRL's `extract_prompt` splits so.
 */
function splitStrings(chosen: string, rejected: string): Omit<Comparison, "row"> {
  let shared = commonTextPrefix(chosen, rejected);
  if (shared > 0 && chosen[shared - 1] === " ") shared--;
  return { prompt: chosen.slice(0, shared), responses: [chosen.slice(shared), rejected.slice(shared)] };
}

/** Whole conversations: the turns both begin with, but at most all before the last, are the prompt. */
function splitConversations(chosen: readonly Message[], rejected: readonly Message[]) {
  const most = Math.min(chosen.length, rejected.length) - 1;
  let shared = 0;
  while (shared < most && isDeepStrictEqual(chosen[shared], rejected[shared])) shared++;
  if (shared === 0) {
    throw new InputError(
      (field) => `${field} is missing, and chosen and rejected share no turn before their last.`,
      {
        path: ["prompt"],
        accepted: "a prompt, or chosen and rejected that begin with the same turns",
      },
    );
  }
  return { prompt: chosen.slice(0, shared), responses: [chosen.slice(shared), rejected.slice(shared)] };
}

/** A response that repeats the prompt's turns, less those. */
function withoutPrompt(response: readonly Message[], prompt: readonly Message[]): readonly Message[] {
  const repeats = prompt.length > 0 && response.length > prompt.length &&
    prompt.every((turn, index) => isDeepStrictEqual(turn, response[index]));
  return repeats ? response.slice(prompt.length) : response;
}

function startsConversation(messages: readonly Message[]): boolean {
  return messages.length > 1 && messages[0]?.role !== "assistant";
}

function parseMessages(value: unknown, path: Path): readonly Message[] {
  if (!Array.isArray(value)) {
    throw new InputError((field) => `${field} must be a list of messages, not ${describe(value)}.`, {
      path,
      value,
      accepted: "a list of {role, content}",
    });
  }
  return parseText(value, path) as readonly Message[];
}

function withTools(path: Path): InputError {
  const sentence = (field: string) => `${field} are not passed on to chat templates: leave them out.`;
  return new InputError(sentence, { path, accepted: "no tools" });
}

function describe(value: unknown): string {
  if (value === undefined) return "missing";
  if (value === null) return "null";
  if (Array.isArray(value)) return "a list";
  if (typeof value === "object") return "an object";
  return `${typeof value} ${JSON.stringify(value)?.slice(0, 40)}`;
}
