/** Items and sequences as groups of tokens, or why they are refused. */
import { InputError } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { alignSharing } from "../model/rope.ts";
import {
  checkTokenIds,
  encodeComparison,
  type EncodedGroup,
  type EncodeSettings,
} from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import type { Text } from "../preference/rows.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import type { ScoreRequest, SequenceRequest } from "./request.ts";

/** What turns text into a model's tokens. */
export interface EncodingModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
}

/** Some candidates of one item: a prompt with more candidates than a batch holds is put before several runs of them. */
export interface Part {
  /** Index in the item's candidates of the part's first. */
  readonly first: number;
  readonly group: EncodedGroup;
}

/** How prompts become sequences. */
export type SequenceSettings = Pick<SequenceRequest, "add_special_tokens" | "max_tokens" | "prompt_logprobs">;

/** No text in use has this many characters to a token: what passes it is refused before it is tokenised at length. */
const CHARACTERS_A_TOKEN = 100;

/**
 * A prompt as a group with one response: the whole of it, whose every token after the first is scored, or its last token
 * alone, so that the rest may be known; what follows is predicted either way.
 *
 * @param mostTokens that the device can bind
 * @throws {InputError} naming the prompt
 */
export function encodeSequence(
  { config, tokenizer }: EncodingModel,
  prompt: string | readonly number[],
  index: number,
  { add_special_tokens, max_tokens, prompt_logprobs }: SequenceSettings,
  mostTokens: number,
): EncodedGroup {
  const field = `prompt[${index}]`;
  const context = config.context_length;
  let ids = prompt;
  if (typeof ids === "string") {
    refuseEndless(ids, context, field);
    ids = tokenizer.encode(ids);
    const { bos, addBos } = tokenizer;
    if (add_special_tokens && addBos && bos !== null && ids[0] !== bos) ids = [bos, ...ids];
  }
  const tokens = Uint32Array.from(ids);
  const unscored = prompt_logprobs ? 0 : Math.max(0, ids.length - 1);
  const group: EncodedGroup = {
    row: index + 1,
    prompt: tokens.subarray(0, unscored),
    responses: [{
      tokens: tokens.subarray(unscored),
      scored_from: 1,
      truncated: false,
      predicts_next: true,
    }],
    prompt_truncated: 0,
  };
  if (ids.length === 0) {
    throw new InputError(`${field} has no token.`, {
      field,
      value: prompt,
      accepted: "at least one token",
    });
  }
  // not those of the group: an id past 32 bits would wrap around in it
  const beyond = ids.find((id) => id >= config.vocab_size);
  if (beyond !== undefined) {
    throw new InputError(
      `${field} has the token id ${beyond}, but the model's vocabulary has ${config.vocab_size} entries.`,
      { field, value: beyond, accepted: `token ids below ${config.vocab_size}` },
    );
  }
  const most = context - max_tokens;
  if (ids.length > most) {
    throw new InputError(
      `${field} has ${ids.length} tokens, but the model's context is ${context}${
        max_tokens > 0 ? `, of which max_tokens takes ${max_tokens}` : ""
      }.`,
      { field, value: `${ids.length} tokens`, accepted: `at most ${most} tokens` },
    );
  }
  refuseUnbindable(ids.length, mostTokens, field, `${field} takes`, "");
  return group;
}

/**
 * An item as tokens: its prompt is cut where the context demands it, a candidate never.
 *
 * @throws {InputError} naming the item and candidate
 */
export function encodeItem(
  model: EncodingModel,
  item: ScoreRequest["items"][number],
  index: number,
): EncodedGroup {
  const { config } = model;
  const context = config.context_length;
  refuseEndless(item.prompt, context, `items[${index}].prompt`);
  for (const [i, text] of item.candidates.entries()) {
    refuseEndless(text, context, `items[${index}].candidates[${i}]`);
  }
  const comparison = { row: index + 1, prompt: item.prompt, responses: item.candidates };
  const whole = encodeWithin(model, comparison, index, {
    max_length: Infinity,
    max_prompt_length: Infinity,
  });
  checkTokenIds(whole, config.vocab_size, `items[${index}]`);
  const scored = whole.responses.map(({ tokens, scored_from }) => tokens.length - scored_from);
  const longest = Math.max(...scored);
  if (longest >= context) {
    const candidate = scored.indexOf(longest);
    const field = `items[${index}].candidates[${candidate}]`;
    throw new InputError(`${field} has ${longest} tokens, but the model's context is ${context}.`, {
      field,
      value: `${longest} tokens`,
      accepted: `a candidate of at most ${context - 1} tokens`,
    });
  }
  const total = Math.max(...whole.responses.map(({ tokens }) => whole.prompt.length + tokens.length));
  const { ropes } = config.traits;
  if (total <= context) return alignSharing(ropes, whole);
  const limits = { max_length: context, max_prompt_length: context - longest };
  return alignSharing(ropes, encodeWithin(model, comparison, index, limits));
}

/**
 * Runs of an item's candidates such that each, with its prompt, fits a batch where that can be.
 *
 * @param budget tokens of a batch
 * @param mostTokens that the device can bind
 * @throws {InputError} where the device has no room for a prompt with one of its candidates
 */
export function splitCandidates(group: EncodedGroup, budget: number, mostTokens: number): Part[] {
  const parts: Part[] = [];
  let first = 0;
  while (first < group.responses.length) {
    let count = 1;
    let size = group.prompt.length + group.responses[first]!.tokens.length;
    for (const { tokens } of group.responses.slice(first + 1)) {
      size += tokens.length;
      if (size > budget) break;
      count++;
    }
    const part = { ...group, responses: group.responses.slice(first, first + count) };
    const field = `items[${group.row - 1}].candidates[${first}]`;
    refuseUnbindable(groupTokens(part), mostTokens, field, `${field} takes`, " with its prompt");
    parts.push({ first, group: part });
    first += count;
  }
  return parts;
}

function encodeWithin(
  { tokenizer }: EncodingModel,
  comparison: Parameters<typeof encodeComparison>[1],
  index: number,
  limits: Pick<EncodeSettings, "max_length" | "max_prompt_length">,
): EncodedGroup {
  const settings: EncodeSettings = { ...limits, truncation_mode: "keep_end", prompt_boundary: "trl" };
  let encoded;
  try {
    encoded = encodeComparison(tokenizer, comparison, settings);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new InputError(error.message.replace(/^Row \d+: /, ""), {
      ...error.problem,
      field: `items[${index}]`,
    });
  }
  if (encoded.group) return encoded.group;
  const { reason, response } = encoded.left_out;
  const field = `items[${index}].candidates[${response}]`;
  throw new InputError(`${field} cannot be scored: ${reason}.`, {
    field,
    value: comparison.responses[response],
    accepted: "a candidate of at least one token",
  });
}

/** Tokenising takes a second a few million characters; a text that cannot be of use to the model is not worth it. */
function refuseEndless(text: Text, context: number, field: string): void {
  const characters = typeof text === "string"
    ? text.length
    : text.reduce((sum, { content }) => sum + content.length, 0);
  const most = context * CHARACTERS_A_TOKEN;
  if (characters <= most) return;
  throw new InputError(`${field} has ${characters} characters; the model's context is ${context} tokens.`, {
    field,
    value: `${characters} characters`,
    accepted: `at most ${most} characters`,
  });
}

function refuseUnbindable(
  tokens: number,
  mostTokens: number,
  field: string,
  takes: string,
  beside: string,
): void {
  if (tokens <= mostTokens) return;
  throw new InputError(
    `${takes} ${tokens} tokens${beside}, more than a batch of this model may have here.`,
    {
      field,
      value: `${tokens} tokens`,
      accepted: `at most ${mostTokens} tokens on this device`,
    },
  );
}
