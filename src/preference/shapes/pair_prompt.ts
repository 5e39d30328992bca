/** What two responses answer: a prompt of columns of its own, or what both begin with. */
import { isDeepStrictEqual } from "node:util";
import { InputError, type Path } from "../../errors.ts";
import { isObject } from "../../json.ts";
import { commonTextPrefix } from "../_common_prefix.ts";
import type { Message, Text } from "../rows.ts";
import type { Answer } from "./answers.ts";
import type { Columns } from "./columns.ts";
import {
  noPrompt,
  nullPrompt,
  PROMPT_COLUMNS,
  readPrompt,
  readSystem,
  unnamedPrompt,
  withoutPrompt,
  withSystem,
} from "./prompts.ts";

/** A prompt with its better and its worse response. */
export interface Pair {
  readonly prompt: Text;
  readonly responses: readonly [Text, Text];
  /** Of the two among all answers of the row, from 1; where there are more than two. */
  readonly ranks?: readonly [number, number];
}

/** Where a dialogue that is one string has its last answer. */
const ANSWERS = "\n\nAssistant:";

/**
 * A pair with its prompt.
 *
 * @param taken columns that are the answers' own
 * @throws {InputError} where there is no prompt, or it does not go with the answers
 */
export function withPrompt(columns: Columns, taken: readonly string[], better: Answer, worse: Answer): Pair {
  const [chosen, rejected] = [better.text, worse.text];
  if (
    typeof chosen !== "string" && typeof rejected !== "string" && isWhole(columns, taken, chosen, rejected)
  ) {
    return splitConversations(columns, taken, chosen, rejected);
  }
  if (taken[0] === "messages" && typeof chosen !== "string") {
    return besideConversation(columns, chosen, worse);
  }
  const prompt = readPrompt(columns, taken);
  if (typeof chosen === "string" && typeof rejected === "string") {
    if (prompt === null) return splitStrings(columns, taken, chosen, rejected);
    return { prompt: checked(columns, prompt), responses: [chosen, rejected] };
  }
  if (
    prompt === null ||
    (typeof prompt === "string" && (typeof chosen === "string" || typeof rejected === "string"))
  ) {
    throw new InputError(
      `${nameOf(better)} and ${nameOf(worse)} must both be strings or both be message lists.`,
      { path: worse.path, value: rejected },
    );
  }
  const turns = checked(columns, prompt);
  if (typeof turns === "string") return { prompt: turns, responses: [chosen, rejected] };
  return {
    prompt: turns,
    responses: [responseOf(chosen, turns, better.path), responseOf(rejected, turns, worse.path)],
  };
}

/** A response without the prompt that it may repeat. @throws {InputError} where it begins with another one */
function responseOf(text: Text, prompt: readonly Message[], path: Path): Text {
  const response = withoutPrompt(text, prompt);
  const [first] = response;
  const asks = (role: string | undefined) => role === "user" || role === "system" || role === "developer";
  if (typeof first !== "object" || !asks(first.role) || !asks(prompt.at(-1)?.role)) return response;
  throw new InputError(
    (field) => `${field} begins with a turn of the ${first.role} that is not the prompt's.`,
    {
      path,
      value: first,
      accepted:
        'an answer, the prompt with an answer, or dataset.columns {"prompt": null} for whole conversations',
    },
  );
}

/** Whether both hold the whole conversation, and no list of turns says what the prompt is. */
function isWhole(
  columns: Columns,
  taken: readonly string[],
  chosen: readonly Message[],
  rejected: readonly Message[],
): boolean {
  if (Array.isArray(columns.peek("prompt")) && !taken.includes("prompt")) return false;
  if (isObject(columns.peek("input"))) return false; // OpenAI's
  if (startsConversation(chosen) || startsConversation(rejected)) return true;
  return !PROMPT_COLUMNS.some((name) => !taken.includes(name) && columns.hasText(name));
}

function startsConversation(messages: readonly Message[]): boolean {
  return messages.length > 1 && messages[0]?.role !== "assistant";
}

/** Whole conversations: the turns both begin with, but at most all before the last, are the prompt. */
function splitConversations(
  columns: Columns,
  taken: readonly string[],
  chosen: readonly Message[],
  rejected: readonly Message[],
): Pair {
  const most = Math.min(chosen.length, rejected.length) - 1;
  let shared = 0;
  while (shared < most && isDeepStrictEqual(chosen[shared], rejected[shared])) shared++;
  // Two turns of the assistant in one conversation are two: a prompt that ends with one would be gone on with.
  while (shared > 0 && chosen[shared - 1]?.role === "assistant" && chosen[shared]?.role === "assistant") {
    shared--;
  }
  if (shared === 0) {
    throw new InputError(
      (field) => `${field} is missing, and chosen and rejected share no turn before their last.`,
      { path: ["prompt"], accepted: "a prompt, or chosen and rejected that begin with the same turns" },
    );
  }
  const turns = chosen.slice(0, shared);
  // ultrafeedback_binarized and its kin repeat a user turn in a `prompt` column.
  const given = taken.includes("prompt") ? undefined : columns.peek("prompt");
  if (typeof given === "string" && given !== "") {
    columns.take("prompt");
    if (!turns.some(({ content }) => content?.trim() === given.trim())) {
      throw new InputError(
        (field) =>
          `${field} is not a turn that chosen and rejected share; dataset.columns {"prompt": null} reads them without it.`,
        {
          path: ["prompt"],
          value: given,
          accepted: 'the shared user turn, a message list, or dataset.columns {"prompt": null}',
        },
      );
    }
  }
  const prompt = withSystem(turns, readSystem(columns, taken));
  return { prompt, responses: [chosen.slice(shared), rejected.slice(shared)] };
}

/** A conversation whose last answer is the better one, and a worse one beside it. */
function besideConversation(columns: Columns, messages: readonly Message[], worse: Answer): Pair {
  const last = messages.findLastIndex(({ role }) => role === "assistant");
  if (last < 1 || last < messages.length - 1) {
    throw new InputError((field) => `${field} must end with the better answer, an assistant's turn.`, {
      path: ["messages"],
      value: messages.map(({ role }) => role),
      accepted: "turns of which the last is the assistant's",
    });
  }
  const prompt = withSystem(messages.slice(0, last), readSystem(columns, ["messages"]));
  const rejected = typeof worse.text === "string"
    ? worse.text
    : withoutPrompt(worse.text, messages.slice(0, last));
  return { prompt, responses: [messages.slice(last), rejected] };
}

/**
 * Whole texts without a prompt. A dialogue's prompt ends with the last answer's name that both have. Of others what both
 * begin with is the prompt, but for a space right before the difference, which most tokenizers write into the next
 * word's token: TRL's `extract_prompt` splits so.
 */
function splitStrings(columns: Columns, taken: readonly string[], chosen: string, rejected: string): Pair {
  let shared = commonTextPrefix(chosen, rejected);
  const dialogue = chosen.slice(0, shared).lastIndexOf(ANSWERS);
  const missing = dialogue < 0 ? nullPrompt(columns, taken) : null;
  if (missing !== null) throw noPrompt(missing, columns);
  if (dialogue < 0 && columns.unused.length > 0 && !columns.isMapped("prompt")) {
    throw unnamedPrompt(columns, "chosen and rejected begin with it");
  }
  if (dialogue >= 0) {
    shared = dialogue + ANSWERS.length;
    columns.note("as a dialogue");
  } else {
    if (shared > 0 && chosen[shared - 1] === " ") shared--;
    columns.note("the prompt is what both begin with");
  }
  // Only of {chosen, rejected} it is the custom that both begin with the prompt.
  if (dialogue < 0 && taken[0] !== "chosen" && !columns.isMapped("prompt")) {
    throw new InputError((field) => `${field} is missing; the columns are ${columns.names.join(", ")}.`, {
      path: ["prompt"],
      value: columns.names,
      accepted: 'a prompt, or dataset.columns {"prompt": null} where the answers begin with it',
    });
  }
  if (shared === 0) {
    throw new InputError(
      (field) =>
        `${field} is missing, and chosen and rejected do not begin alike; the columns are ${
          columns.names.join(", ")
        }.`,
      { path: ["prompt"], value: columns.names, accepted: "a prompt, or texts that begin with it" },
    );
  }
  return { prompt: chosen.slice(0, shared), responses: [chosen.slice(shared), rejected.slice(shared)] };
}

/** @throws {InputError} where there is no prompt although other columns hold text, or a list without a turn */
function checked(columns: Columns, prompt: Text): Text {
  if (typeof prompt !== "string" && prompt.length === 0) {
    throw new InputError((field) => `${field} is an empty list.`, {
      path: ["prompt"],
      accepted: "at least one turn",
    });
  }
  const others = prompt === "" ? columns.unused : [];
  if (others.length === 0) return prompt;
  throw new InputError(
    (field) => `${field} is empty, and other columns hold text: ${others.join(", ")}.`,
    {
      path: ["prompt"],
      value: prompt,
      accepted: "a prompt, or dataset.columns that say which column holds it",
    },
  );
}

function nameOf({ path }: Answer): string {
  return String(path[0]);
}
