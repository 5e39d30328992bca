/**
 * From a comparison to tokens: template, joint tokenising, BOS and EOS once, truncation, the shared prefix. Training and
 * scoring both come through here, so that a row gets the same log-probs from either.
 *
 * @module
 */
import { InputError } from "../errors.ts";
import { commonPrefix } from "./_common_prefix.ts";
import { type CutSettings, groupSequences } from "./cut.ts";
import type { Comparison, Text } from "./rows.ts";
import { textsOf } from "./texts.ts";
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
  /** What its objective has prepared of it. */
  readonly numbers?: Float32Array;
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
 * @throws {InputError} where its text cannot be templated.
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
    throw new InputError((place) => `${place} has no response.`, { accepted: "at least one response" });
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
 * @throws {InputError} where text cannot be templated
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

/**
 * Checks token ids against the model's vocabulary.
 *
 * @param fromText whether they are a tokenizer's, and were not given as ids
 * @throws {InputError} where the model has no embedding for one
 */
export function checkTokenIds(ids: ArrayLike<number>, vocabulary: number, fromText = true): void {
  for (let i = 0; i < ids.length; i++) { // a tenth of the time of an iterator or find()
    const id = ids[i]!;
    if (id < vocabulary) continue;
    throw new InputError(
      (place) => `${place} has the token id ${id}, but the model's vocabulary has ${vocabulary} entries.`,
      {
        value: id,
        accepted: `token ids below ${vocabulary}${fromText ? ": a tokenizer that belongs to the model" : ""}`,
      },
    );
  }
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
