/**
 * From a comparison to tokens: template, joint tokenising, BOS and EOS once, truncation, the shared prefix. Training and
 * scoring both come through here, so that a row gets the same log-probs from either.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { commonPrefix, commonTextPrefix } from "./_common_prefix.ts";
import { Marks } from "./_marks.ts";
import type { Comparison, Message, Text } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** How text becomes tokens. */
export interface TextSettings {
  /**
   * `trl`: a templated prompt ends after the generation prompt. `simpo`: as the SimPO authors' code has it. A templated prompt
   * ends before the generation prompt; one without a system turn gets an empty one where the template names such turns; and
   * EOS is added unless it is a response's very last token, be it that white space follows the EOS of a template.
   */
  readonly prompt_boundary: "trl" | "simpo";
  /** Whether EOS follows a response that does not end with it; true where it is left out. What a template writes stays. */
  readonly add_eos_token?: boolean;
  /** Variables for the chat template beside its own; none where it is left out. */
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
  /**
   * Whether special tokens that the row spells are text: true where it is not trusted; those that a template writes are
   * tokens. As the tokenizer's files say for all of the text where it is left out or null.
   */
  readonly split_special_tokens?: boolean | null | undefined;
}

/** What is cut. */
export interface CutSettings {
  /** Tokens of a prompt and one response together. */
  readonly max_length: number;
  /** Tokens a prompt is cut to where prompt and longest response exceed `max_length`. */
  readonly max_prompt_length: number;
  /** Which end of a prompt stays. */
  readonly truncation_mode: "keep_end" | "keep_start";
}

/** How text becomes tokens, and what is cut. */
export type EncodeSettings = TextSettings & CutSettings;

/** One response's tokens after the group's shared prompt. */
export interface EncodedResponse {
  /** Tokens after the group's shared prefix. */
  readonly tokens: Uint32Array;
  /** Index in `tokens` of the first scored token; what stands before it is this response's own spelling of the prompt. */
  readonly scored_from: number;
  /** Whether tokens of the response itself were cut. */
  readonly truncated: boolean;
  /** Whether what follows the last token is predicted too: one more row, whose target (0) means nothing. */
  readonly predicts_next?: boolean;
}

/** A comparison as tokens: the prompt once, then what differs. */
export interface EncodedGroup {
  readonly row: number;
  /** Shared prefix of all responses; may be empty. */
  readonly prompt: Uint32Array;
  readonly responses: readonly EncodedResponse[];
  /** Prompt tokens that were cut. */
  readonly prompt_truncated: number;
}

/** Tokens of a comparison before anything is cut. */
export interface Uncut {
  /** Of the prompt, as the longest of its spellings. */
  readonly prompt: number;
  /** Of the prompt with the longest response. */
  readonly whole: number;
}

/** A group, or why the row has none. */
export type Encoded =
  | { readonly group: EncodedGroup; readonly uncut: Uncut; readonly left_out?: never }
  | {
    readonly left_out: {
      readonly row: number;
      readonly reason: string;
      /** Index of the response at fault. */
      readonly response: number;
    };
    readonly group?: never;
    readonly uncut?: never;
  };

/** A prompt and one response as tokens of one sequence. */
export interface Sequence {
  readonly ids: readonly number[];
  /** Index of the first token that the response has a part in. */
  readonly boundary: number;
}

/**
 * Tokenises a comparison.
 *
 * A conversation (messages anywhere) goes through the chat template; a string beside messages is a user prompt or an
 * assistant response. Strings alone are joined as they are. A prompt is cut first, to `max_prompt_length` and only where
 * it and the longest response exceed `max_length`; then each response to what is left. BOS is never cut.
 *
 * @returns The group, or the reason why the row cannot be used: a response without a token to score.
 * @throws InputError where its text cannot be templated.
 */
export function encodeComparison(
  tokenizer: Tokenizer,
  comparison: Comparison,
  settings: EncodeSettings,
): Encoded {
  const { row, responses } = comparison;
  const leftOut = (response: number, why: string): Encoded => {
    const which = responses.length === 1 ? "the response" : `response ${response + 1} of ${responses.length}`;
    return { left_out: { row, reason: `${which} ${why}`, response } };
  };
  if (responses.length === 0) {
    throw new InputError((place) => `${place} has no response.`, {
      path: [],
      accepted: "at least one response",
    });
  }
  const empty = responses.findIndex(isEmpty);
  if (empty >= 0) return leftOut(empty, EMPTY);
  const sequences = tokeniseResponses(tokenizer, comparison, settings);
  const silent = sequences.findIndex((sequence) => isSilent(tokenizer, sequence));
  if (silent >= 0) return leftOut(silent, SILENT);
  const { group, faults } = groupSequences(tokenizer, row, sequences, settings);
  if (!group) return leftOut(...[...faults][0]!);
  const uncut = {
    prompt: Math.max(...sequences.map(({ boundary }) => boundary)),
    whole: Math.max(...sequences.map(({ ids }) => ids.length)),
  };
  return { group, uncut };
}

/** What is said of a response that {@link isEmpty}. */
export const EMPTY = "is empty";
/** What is said of a response that {@link isSilent}. */
export const SILENT = "has no token besides the end";

/** No text, and nothing else (tool calls) that a template could write. */
export function isEmpty(response: Text): boolean {
  if (typeof response === "string") return response === "";
  return response.every((message) =>
    !message.content && Object.keys(message).every((key) => key === "role" || key === "content")
  );
}

/** Whether a response has no token but such as end one. */
export function isSilent(tokenizer: Tokenizer, { ids, boundary }: Sequence): boolean {
  return ids.slice(boundary).every((id) => tokenizer.eos.includes(id));
}

/**
 * Each response, none of which {@link isEmpty}, as tokens behind the prompt's; nothing is cut.
 *
 * @throws InputError where text cannot be templated
 */
export function tokeniseResponses(
  tokenizer: Tokenizer,
  comparison: Comparison,
  settings: TextSettings,
): Sequence[] {
  const prompts = new Map<string, readonly number[]>(); // mostly one for all responses
  const { texts, encode } = textsOf(tokenizer, comparison, settings);
  return texts.map(([prompt, response]) => {
    let ids = prompts.get(prompt);
    if (!ids) prompts.set(prompt, ids = encode(prompt));
    return tokenise(tokenizer, ids, encode(prompt + response), settings);
  });
}

/** Each response's [prompt, response] as text, and what makes tokens of such texts. */
function textsOf(tokenizer: Tokenizer, comparison: Comparison, settings: TextSettings): {
  readonly texts: readonly (readonly [string, string])[];
  readonly encode: (text: string) => number[];
} {
  const split_special_tokens = settings.split_special_tokens ?? undefined;
  if (split_special_tokens !== true || isPlain(comparison)) {
    return {
      texts: templated(tokenizer, comparison, settings),
      encode: (text) => tokenizer.encode(text, { split_special_tokens }),
    };
  }
  const marks = Marks.for(tokenizer, comparison, [tokenizer.chatTemplate, settings.chat_template_kwargs]);
  if (marks === null) {
    return {
      texts: templated(tokenizer, comparison, settings),
      encode: (text) => tokenizer.encode(text, { split_special_tokens: false }),
    };
  }
  try {
    return {
      texts: templated(tokenizer, marks.mark(comparison), settings),
      encode: (marked) => {
        const { text, literal } = marks.read(marked);
        return tokenizer.encode(text, { literal });
      },
    };
  } catch (error) {
    throw marks.unmarkError(error);
  }
}

/** Whether no template has a part in a row's text. */
function isPlain({ prompt, responses }: Comparison): boolean {
  return typeof prompt === "string" && responses.every((response) => typeof response === "string");
}

/** Sequences as a group; or without one the responses that have no token to score, and why. */
export type Grouped =
  | { readonly group: EncodedGroup; readonly faults?: never }
  | { readonly faults: ReadonlyMap<number, string>; readonly group?: never };

/** Cuts sequences to what the settings allow and puts them together as a group. */
export function groupSequences(
  tokenizer: Tokenizer,
  row: number,
  whole: readonly Sequence[],
  settings: CutSettings,
): Grouped {
  const { max_length } = settings;
  const { sequences, cut } = cutPrompts(tokenizer, whole, settings);
  const shared = Math.min(
    ...sequences.map(({ ids, boundary }) => Math.min(boundary, commonPrefix(ids, sequences[0]!.ids))),
  );
  // Nothing predicts the very first token of a sequence.
  const firstScored = Math.max(shared, 1);
  const faults = new Map<number, string>();
  const responses = sequences.map(({ ids, boundary }, response): EncodedResponse => {
    const scored = Math.max(boundary, firstScored);
    if (scored >= Math.min(ids.length, max_length)) {
      const fault = ids.length > max_length
        ? `has no token left: its prompt takes ${boundary} of max_length ${max_length}`
        : "has one token and nothing before it that could predict it";
      faults.set(response, fault);
    }
    return {
      tokens: new Uint32Array(ids.slice(shared, max_length)),
      scored_from: scored - shared,
      truncated: ids.length > max_length,
    };
  });
  if (faults.size > 0) return { faults };
  const prompt = new Uint32Array(sequences[0]!.ids.slice(0, shared));
  return { group: { row, prompt, responses, prompt_truncated: cut } };
}

/**
 * Checks token ids against the model's vocabulary.
 *
 * @throws InputError where the tokenizer gives ids that the model has no embedding for
 */
export function checkTokenIds(tokens: Uint32Array, vocabulary: number): void {
  const beyond = tokens.find((id) => id >= vocabulary);
  if (beyond === undefined) return;
  throw new InputError(
    (place) => `${place} has the token id ${beyond}, but the model's vocabulary has ${vocabulary} entries.`,
    {
      path: [],
      value: beyond,
      accepted: `token ids below ${vocabulary}: a tokenizer that belongs to the model`,
    },
  );
}

/** Turns as text, by a template that is given what the conversation is to have beside them. */
type Render = (messages: readonly Message[], addGenerationPrompt?: boolean) => string;

/** Each response's [prompt, response] as text. */
function templated(
  tokenizer: Tokenizer,
  comparison: Comparison,
  { prompt_boundary: boundary, chat_template_kwargs }: TextSettings,
): (readonly [string, string])[] {
  const { prompt, responses, tools, chat_template_kwargs: own } = comparison;
  if (isPlain(comparison)) return responses.map((response) => [prompt as string, response as string]);
  const kwargs = own === undefined ? chat_template_kwargs : { ...chat_template_kwargs, ...own };
  const render: Render = (messages, addGenerationPrompt = false) =>
    messages.length === 0 ? "" : tokenizer.renderChat(messages, { addGenerationPrompt, tools, kwargs });
  const given = asMessages(prompt, "user");
  const turns = boundary === "simpo" ? withSystemTurn(tokenizer, given, render) : given;
  const answers = responses.map((response) => asMessages(response, "assistant"));
  const last = turns.at(-1);
  if (last?.role === "assistant" && answers.every(([first]) => first?.role === "assistant")) {
    return continued(render, turns.slice(0, -1), last, answers);
  }
  const opened = render(turns, boundary === "trl" && last?.role !== "assistant");

  return answers.map((answer) => {
    const full = render([...turns, ...answer]);
    if (boundary === "simpo" && !full.startsWith(opened)) {
      return [opened, withoutBos(tokenizer, render(answer))];
    }
    // TRL: where the template opens a turn otherwise than it writes it (an empty <think>), the prompt is what both have.
    // The authors template the response apart; the end of the whole is the same text for the templates they used, and is
    // right too for templates that refuse a conversation without a user turn or put a system turn before it.
    return splitAt(opened, full);
  });
}

/** A prompt that ends in the midst of the assistant's turn: each response goes on with it. */
function continued(
  render: Render,
  turns: readonly Message[],
  begun: Message,
  answers: readonly (readonly Message[])[],
): (readonly [string, string])[] {
  const content = begun.content ?? "";
  const marked = { ...begun, content: content + CONTINUED };
  const opened = content.trim() === "" ? render(turns, true) : upTo(render([...turns, marked]), content);
  return answers.map(([first, ...rest]) => {
    const whole = { ...begun, ...first!, content: content + (first!.content ?? "") };
    return splitAt(opened, render([...turns, whole, ...rest]));
  });
}

/** Stands behind what is continued, as in transformers: where a template trims, its space goes. */
const CONTINUED = "CONTINUE_FINAL_MESSAGE_TAG ";

/** A conversation's text up to the mark: transformers' `continue_final_message`. */
function upTo(text: string, content: string): string {
  const at = text.lastIndexOf(CONTINUED.trim());
  if (at < 0) {
    throw new InputError("The chat template does not write the assistant's turn that is to be continued.", {
      path: [],
      value: content,
      accepted: "a prompt that ends with another turn",
    });
  }
  const before = text.slice(0, at);
  return text.startsWith(CONTINUED, at) ? before : before.trimEnd();
}

function splitAt(opened: string, full: string): readonly [string, string] {
  const split = commonTextPrefix(opened, full);
  return [full.slice(0, split), full.slice(split)];
}

function asMessages(text: Text, role: string): readonly Message[] {
  if (typeof text !== "string") return text;
  return text === "" ? [] : [{ role, content: text }];
}

/** The authors' condition on the template's source; theirs fails where the template refuses system turns all the same. */
function withSystemTurn(tokenizer: Tokenizer, turns: readonly Message[], render: Render): readonly Message[] {
  const named = /system|<\|im_start\|>/.test(tokenizer.chatTemplate ?? "");
  if (!named || turns.length === 0 || turns[0]?.role === "system") return turns;
  const begun = [{ role: "system", content: "" }, ...turns];
  try {
    render(begun);
    return begun;
  } catch (error) {
    if (error instanceof InputError) return turns;
    throw error;
  }
}

function withoutBos(tokenizer: Tokenizer, text: string): string {
  const bos = tokenizer.bos === null ? "" : tokenizer.token(tokenizer.bos);
  return text.startsWith(bos) ? text.slice(bos.length) : text;
}

/**
 * The tokens of prompt and response as one text, as the model would see it. Where a merge crosses the boundary, the token
 * that holds both, and every token that the prompt alone spells otherwise, is of the response.
 */
function tokenise(
  tokenizer: Tokenizer,
  promptIds: readonly number[],
  ids: number[],
  { prompt_boundary, add_eos_token = true }: TextSettings,
): Sequence {
  const { bos, addBos, eos } = tokenizer;
  const eosId = add_eos_token ? tokenizer.eosId : null;
  let boundary = commonPrefix(ids, promptIds);

  if (addBos && bos !== null) {
    if (ids[0] !== bos) {
      ids.unshift(bos);
      boundary++;
    }
    while (ids[1] === bos) {
      ids.shift();
      boundary--;
    }
    boundary = Math.max(boundary, 1);
  }

  if (prompt_boundary === "simpo") {
    if (eosId !== null && ids.length > boundary && ids.at(-1) !== eosId) ids.push(eosId);
    return { ids, boundary };
  }
  // Chat templates close a turn with EOS and often a line feed after it.
  let end = ids.length;
  while (end > boundary && tokenizer.token(ids[end - 1]!).trim() === "") end--;
  const ended = end > boundary && eos.includes(ids[end - 1]!);
  if (ended) {
    while (end - 2 >= boundary && ids[end - 2] === ids[end - 1]) ids.splice(--end, 1);
  } else if (eosId !== null && ids.length > boundary) {
    ids.push(eosId);
  }
  return { ids, boundary };
}

/** Cuts the same tokens from every sequence's prompt, so that what they share stays shared. */
function cutPrompts(
  tokenizer: Tokenizer,
  sequences: readonly Sequence[],
  settings: CutSettings,
): { sequences: readonly Sequence[]; cut: number } {
  const longestPrompt = Math.max(...sequences.map(({ boundary }) => boundary));
  const longest = Math.max(...sequences.map(({ ids }) => ids.length));
  const kept = Math.max(settings.max_prompt_length, 0);
  if (longest <= settings.max_length || longestPrompt <= kept) return { sequences, cut: 0 };

  const cutOne = ({ ids, boundary }: Sequence): Sequence => {
    const bos = boundary > 0 && ids[0] === tokenizer.bos ? 1 : 0;
    const prompt = settings.truncation_mode === "keep_start"
      ? ids.slice(0, Math.min(boundary, Math.max(kept, bos)))
      : [
        ...ids.slice(0, bos),
        ...ids.slice(Math.min(bos + longestPrompt - kept, boundary), boundary),
      ];
    return { ids: [...prompt, ...ids.slice(boundary)], boundary: prompt.length };
  };
  const after = sequences.map(cutOne);
  return { sequences: after, cut: longestPrompt - Math.max(...after.map(({ boundary }) => boundary)) };
}
