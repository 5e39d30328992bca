/** Items and sequences as groups of tokens, or why they are refused. */
import { InputError, within } from "../errors.ts";
import type { ModelConfig } from "../model/config.ts";
import { alignSharing } from "../model/rope.ts";
import {
  checkTokenIds,
  encodeComparison,
  type EncodedGroup,
  type EncodeSettings,
} from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import type { Comparison, Text } from "../preference/rows.ts";
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
 * @throws {InputError}
 */
export function encodeSequence(
  { config, tokenizer }: EncodingModel,
  prompt: string | readonly number[],
  index: number,
  { add_special_tokens, max_tokens, prompt_logprobs }: SequenceSettings,
  mostTokens: number,
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
    responses: [{
      tokens: tokens.subarray(unscored),
      scored_from: 1,
      truncated: false,
      predicts_next: true,
    }],
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
  const beyond = ids.find((id) => id >= config.vocab_size);
  if (beyond !== undefined) {
    throw new InputError(
      (field) =>
        `${field} has the token id ${beyond}, but the model's vocabulary has ${config.vocab_size} entries.`,
      { path: [], value: beyond, accepted: `token ids below ${config.vocab_size}` },
    );
  }
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
  refuseUnbindable(ids.length, mostTokens, "");
  return group;
}

/**
 * An item as tokens: its prompt is cut where the context demands it, a candidate never.
 *
 * @throws {InputError} at its prompt or candidate
 */
export function encodeItem(
  model: EncodingModel,
  item: ScoreRequest["items"][number],
  index: number,
): EncodedGroup {
  const { config } = model;
  const context = config.context_length;
  within(["prompt"], () => refuseEndless(item.prompt, context));
  for (const [i, text] of item.candidates.entries()) {
    within(["candidates", i], () => refuseEndless(text, context));
  }
  const comparison = { row: index + 1, prompt: item.prompt, responses: item.candidates };
  const whole = encodeWithin(model, comparison, { max_length: Infinity, max_prompt_length: Infinity });
  within(["prompt"], () => checkTokenIds(whole.prompt, config.vocab_size));
  for (const [i, { tokens }] of whole.responses.entries()) {
    within(["candidates", i], () => checkTokenIds(tokens, config.vocab_size));
  }
  const scored = whole.responses.map(({ tokens, scored_from }) => tokens.length - scored_from);
  const longest = Math.max(...scored);
  if (longest >= context) {
    const candidate = scored.indexOf(longest);
    throw new InputError(
      (field) => `${field} has ${longest} tokens, but the model's context is ${context}.`,
      {
        path: ["candidates", candidate],
        value: `${longest} tokens`,
        accepted: `a candidate of at most ${context - 1} tokens`,
      },
    );
  }
  const total = Math.max(...whole.responses.map(({ tokens }) => whole.prompt.length + tokens.length));
  const { ropes } = config.traits;
  if (total <= context) return alignSharing(ropes, whole);
  const limits = { max_length: context, max_prompt_length: context - longest };
  return alignSharing(ropes, encodeWithin(model, comparison, limits));
}

/**
 * Runs of an item's candidates such that each, with its prompt, fits a batch where that can be.
 *
 * @param budget tokens of a batch
 * @param mostTokens that the device can bind
 * @throws {InputError} at the candidate with which the device has no room for the prompt
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
    const path = ["candidates", first];
    within(path, () => refuseUnbindable(groupTokens(part), mostTokens, " with its prompt"));
    parts.push({ first, group: part });
    first += count;
  }
  return parts;
}

function encodeWithin(
  { tokenizer }: EncodingModel,
  comparison: Comparison,
  limits: Pick<EncodeSettings, "max_length" | "max_prompt_length">,
): EncodedGroup {
  const settings: EncodeSettings = { ...limits, truncation_mode: "keep_end", prompt_boundary: "trl" };
  const encoded = within(["prompt"], () => encodeComparison(tokenizer, comparison, settings));
  if (encoded.group) return encoded.group;
  const { reason, response } = encoded.left_out;
  throw new InputError((field) => `${field} cannot be scored: ${reason}.`, {
    path: ["candidates", response],
    value: comparison.responses[response],
    accepted: "a candidate of at least one token",
  });
}

/** Tokenising takes a second a few million characters; a text that cannot be of use to the model is not worth it. */
function refuseEndless(text: Text, context: number): void {
  const characters = typeof text === "string"
    ? text.length
    : text.reduce((sum, { content }) => sum + (content?.length ?? 0), 0);
  const most = context * CHARACTERS_A_TOKEN;
  if (characters <= most) return;
  throw new InputError(
    (field) => `${field} has ${characters} characters; the model's context is ${context} tokens.`,
    { path: [], value: `${characters} characters`, accepted: `at most ${most} characters` },
  );
}

function refuseUnbindable(tokens: number, mostTokens: number, beside: string): void {
  if (tokens <= mostTokens) return;
  throw new InputError(
    (field) => `${field} takes ${tokens} tokens${beside}, more than a batch of this model may have here.`,
    { path: [], value: `${tokens} tokens`, accepted: `at most ${mostTokens} tokens on this device` },
  );
}
