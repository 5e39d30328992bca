/** Items and sequences as groups of tokens, or why they are refused. */
import type { UsedEncoding } from "../api/score.ts";
import { InputError, within } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { alignSharing } from "../model/rope.ts";
import { groupSequences } from "../preference/cut.ts";
import {
  checkTokenIds,
  EMPTY,
  type EncodedGroup,
  isEmpty,
  isSilent,
  type Sequence,
  SILENT,
  tokeniseResponses,
} from "../preference/encode.ts";
import type { Comparison, Message, Text } from "../preference/rows.ts";
import { isTemplateStopped } from "../preference/chat_template.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import {
  DEFAULT_ENCODING,
  type ScoreEncoding,
  type ScoreRequestItem,
  type ScoreText,
  type SequenceRequest,
} from "./request.ts";

/** What turns text into a model's tokens. */
export interface EncodingModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
}

/** An item as tokens. */
export interface EncodedItem {
  /** The prompt with the candidates that have a token to score; null where none has. */
  readonly group: EncodedGroup | null;
  /** Of each response of the group, its index in the item's candidates. */
  readonly candidates: readonly number[];
  /** The other candidates, by index: what is wrong with each. */
  readonly left_out: ReadonlyMap<number, string>;
}

/** How prompts become sequences. */
export type SequenceSettings = Pick<SequenceRequest, "add_special_tokens" | "max_tokens" | "prompt_logprobs">;

/** How long candidates are templated apart to find the one that is at fault. */
const APART_MS = 5_000;

/** No text in use has this many characters to a token: what passes it is refused before it is tokenised at length. */
const CHARACTERS_A_TOKEN = 100;

/**
 * A prompt as a group with one response: the whole of it, whose every token after the first is scored, or its last token
 * alone, so that the rest may be known; what follows is predicted either way.
 *
 * @throws {InputError}
 */
export function encodeSequence(
  { config, tokenizer }: EncodingModel,
  prompt: string | readonly number[],
  { add_special_tokens, max_tokens, prompt_logprobs }: SequenceSettings,
  index: number,
): EncodedGroup {
  const context = config.context_length;
  let ids = prompt;
  if (typeof ids === "string") {
    refuseEndless(ids, context);
    ids = tokenizer.encode(ids);
    const { bos, addBos } = tokenizer;
    if (add_special_tokens && addBos && bos !== null && ids[0] !== bos) ids = [bos, ...ids];
  }
  const tokens = Uint32Array.from(ids);
  const unscored = prompt_logprobs ? 0 : Math.max(0, ids.length - 1);
  const group: EncodedGroup = {
    row: index + 1,
    prompt: tokens.subarray(0, unscored),
    responses: [{ tokens: tokens.subarray(unscored), scored_from: 1, truncated: false, predicts_next: true }],
    prompt_truncated: 0,
  };
  if (ids.length === 0) {
    throw new InputError((field) => `${field} has no token.`, {
      path: [],
      value: prompt,
      accepted: "at least one token",
    });
  }
  // not those of the group: an id past 32 bits would wrap around in it
  checkTokenIds(ids, config.vocab_size, typeof prompt === "string");
  const most = context - max_tokens;
  if (ids.length > most) {
    throw new InputError(
      (field) =>
        `${field} has ${ids.length} tokens, but the model's context is ${context}${
          max_tokens > 0 ? `, of which max_tokens takes ${max_tokens}` : ""
        }.`,
      { path: [], value: `${ids.length} tokens`, accepted: `at most ${most} tokens` },
    );
  }
  return group;
}

/**
 * An item as tokens, cut as its encoding says.
 *
 * @throws {InputError} at its prompt or candidate
 */
export function encodeItem(
  model: EncodingModel,
  item: ScoreRequestItem,
  index: number,
  encoding: UsedEncoding,
): EncodedItem {
  const { config, tokenizer } = model;
  const { max_length, max_prompt_length } = encoding;
  const left_out = new Map<number, string>();
  const sequences = tokeniseItem(model, item, index, encoding, left_out);
  // nothing predicts the very first token
  const scored = ({ ids, boundary }: Sequence) => ids.length - Math.max(boundary, 1);
  if (max_prompt_length === null) {
    const limit = max_length < config.context_length ? "max_length" : "the model's context";
    for (const [candidate, sequence] of sequences) {
      if (scored(sequence) < max_length) continue;
      left_out.set(candidate, `has ${scored(sequence)} tokens, but ${limit} is ${max_length}`);
      sequences.delete(candidate);
    }
  }
  while (sequences.size > 0) {
    const candidates = [...sequences.keys()];
    const whole = [...sequences.values()];
    const longest = whole.reduce((most, sequence) => Math.max(most, scored(sequence)), 0);
    const cut = { ...encoding, max_prompt_length: max_prompt_length ?? max_length - longest };
    const { group, faults } = groupSequences(tokenizer, index + 1, whole, cut);
    if (group) return { group: alignSharing(config.plan.ropes, group), candidates, left_out };
    for (const [place, fault] of faults) {
      left_out.set(candidates[place]!, fault);
      sequences.delete(candidates[place]!);
    }
  }
  return { group: null, candidates: [], left_out };
}

/**
 * An item's candidates by their indices as tokens behind the prompt's; nothing is cut.
 *
 * @param left_out takes those that have no token to score
 * @throws {InputError} at its prompt or candidate
 */
function tokeniseItem(
  { config, tokenizer }: EncodingModel,
  { prompt, candidates, ...extras }: ScoreRequestItem,
  index: number,
  encoding: UsedEncoding,
  left_out: Map<number, string>,
): Map<number, Sequence> {
  const context = config.context_length;
  within(["prompt"], () => refuseEndless(prompt, context));
  const kept = candidates.flatMap((text, candidate) => {
    const fault = isNothing(text) ? EMPTY : endless(text, context);
    if (fault !== null) left_out.set(candidate, fault);
    return fault === null ? [{ candidate, text }] : [];
  });
  const tokenised = isIds(prompt)
    ? kept.map(({ text }) => ({ ids: [...prompt, ...text as readonly number[]], boundary: prompt.length }))
    : within(["prompt"], () => {
      const responses = kept.map(({ text }) => text as Text);
      return tokeniseEach(tokenizer, { row: index + 1, prompt, responses, ...extras }, encoding);
    });
  const sequences = new Map<number, Sequence>();
  for (const [place, sequence] of tokenised.entries()) {
    const { candidate } = kept[place]!;
    if (typeof sequence === "string") {
      left_out.set(candidate, sequence);
      continue;
    }
    const beyond = sequence.ids.findIndex((id) => id >= config.vocab_size);
    within(
      beyond < sequence.boundary ? ["prompt"] : ["candidates", candidate],
      () => checkTokenIds(sequence.ids, config.vocab_size, !isIds(prompt)),
    );
    if (!isIds(prompt) && isSilent(tokenizer, sequence)) left_out.set(candidate, SILENT);
    else sequences.set(candidate, sequence);
  }
  return sequences;
}

/** Each response as tokens, or why the template refuses it. @throws {InputError} where it refuses all */
function tokeniseEach(
  tokenizer: Tokenizer,
  comparison: Comparison,
  encoding: UsedEncoding,
): (Sequence | string)[] {
  if (comparison.responses.length === 0) return [];
  try {
    return tokeniseResponses(tokenizer, comparison, encoding);
  } catch (error) {
    const alone = comparison.responses.length === 1;
    if (!(error instanceof InputError) || alone || isTemplateStopped(error)) throw error;
    const end = performance.now() + APART_MS;
    const each = comparison.responses.map((response) => {
      if (performance.now() > end) throw error;
      try {
        return tokeniseResponses(tokenizer, { ...comparison, responses: [response] }, encoding)[0]!;
      } catch (own) {
        if (!(own instanceof InputError)) throw own;
        return `cannot be templated: ${own.message.replace(/\.$/, "")}`;
      }
    });
    if (each.every((one) => typeof one === "string")) throw error;
    return each;
  }
}

/** An encoding with what a model's context makes of it. */
export function usedEncoding(encoding: Partial<ScoreEncoding> | undefined, context: number): UsedEncoding {
  const asked = { ...DEFAULT_ENCODING, ...encoding };
  return { ...asked, max_length: Math.min(asked.max_length ?? context, context) };
}

/** Whether a prompt or a candidate is token ids; an empty list is none. */
function isIds(text: ScoreText): text is readonly number[] {
  return typeof text !== "string" && typeof text[0] === "number";
}

function isNothing(candidate: ScoreText): boolean {
  return !isIds(candidate) && isEmpty(candidate as Text);
}

/** Why a text is not tokenised, which takes a second a few million characters: it can be of no use to the model. */
function endless(text: ScoreText, context: number): string | null {
  const { size, unit } = sizeOf(text);
  return size <= context * CHARACTERS_A_TOKEN
    ? null
    : `has ${size} ${unit}; the model's context is ${context} tokens`;
}

function refuseEndless(text: ScoreText, context: number): void {
  const why = endless(text, context);
  if (why === null) return;
  const { size, unit } = sizeOf(text);
  throw new InputError((field) => `${field} ${why}.`, {
    path: [],
    value: `${size} ${unit}`,
    accepted: `at most ${context * CHARACTERS_A_TOKEN} ${unit}`,
  });
}

function sizeOf(text: ScoreText): { readonly size: number; readonly unit: string } {
  if (isIds(text)) return { size: text.length, unit: "token ids" };
  const size = typeof text === "string"
    ? text.length
    : (text as readonly Message[]).reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
  return { size, unit: "characters" };
}
