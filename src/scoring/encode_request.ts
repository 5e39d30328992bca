/** Whole requests as tokens: what the device's thread is given of them. */
import type { UsedEncoding } from "../api/score.ts";
import { within } from "../errors.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { type EncodedItem, encodeItem, encodeSequence, type EncodingModel, usedEncoding } from "./encode.ts";
import type { ScoreRequest, ScoringWeights, SequenceRequest } from "./request.ts";

/** What is asked of {@link Scorer.score}. */
export interface EncodedScore {
  readonly items: readonly EncodedItem[];
  readonly encoding: UsedEncoding;
  readonly beta: number;
  /** Texts of all tokens of the responses by their ids; null where results do not carry them. */
  readonly names: ReadonlyMap<number, string> | null;
}

/** Sequences as groups of one response, and how the vocabulary spells them. */
export interface EncodedSequences {
  readonly groups: readonly EncodedGroup[];
  readonly texts: readonly string[];
  /** Of each sequence, its tokens' texts. */
  readonly tokens: readonly (readonly string[])[];
}

/** Items that are tokens, with the weights to score them with. */
export type TokenScoreRequest = ScoringWeights & EncodedScore;

/** Sequences that are tokens, with the weights to score them with. */
export type TokenSequenceRequest = ScoringWeights & Pick<EncodedSequences, "groups">;

/** Milliseconds of tokenising in one go: a long request must hold up neither others nor a stop. */
const TOKENISE_MS = 50;

/**
 * A request's items as tokens.
 *
 * @param pause awaited whenever some time has passed; what it throws ends the work
 * @throws {InputError} naming the item and candidate
 */
export async function encodeScore(
  { config, tokenizer }: EncodingModel,
  request: Pick<ScoreRequest, "items" | "chat_template" | "encoding" | "beta" | "token_logprobs">,
  pause: () => Promise<void>,
): Promise<EncodedScore> {
  const model = { config, tokenizer: tokenizer.withChatTemplate(request.chat_template) };
  const encoding = usedEncoding(request.encoding, config.context_length);
  const items: EncodedItem[] = [];
  await inSlices(request.items, pause, (item, i) => {
    within(["items", i], () => items.push(encodeItem(model, item, i, encoding)));
  });
  let names: Map<number, string> | null = null;
  if (request.token_logprobs) {
    names = new Map();
    for (const { tokens } of items.flatMap(({ group }) => group?.responses ?? [])) {
      for (const id of tokens) if (!names.has(id)) names.set(id, tokenizer.token(id));
    }
  }
  return { items, encoding, beta: request.beta, names };
}

/**
 * A request's sequences as tokens.
 *
 * @param pause as {@link encodeScore}
 * @throws {InputError} naming the prompt
 */
export async function encodeSequences(
  model: EncodingModel,
  { prompts, ...settings }: Omit<SequenceRequest, keyof ScoringWeights>,
  pause: () => Promise<void>,
): Promise<EncodedSequences> {
  const encoded = { groups: [] as EncodedGroup[], texts: [] as string[], tokens: [] as string[][] };
  await inSlices(prompts, pause, (prompt, i) => {
    const group = within(["prompt", i], () => encodeSequence(model, prompt, settings, i));
    const ids = [...group.prompt, ...group.responses[0]!.tokens];
    encoded.groups.push(group);
    encoded.texts.push(typeof prompt === "string" ? prompt : model.tokenizer.decode(prompt));
    encoded.tokens.push(ids.map((id) => model.tokenizer.token(id)));
  });
  return encoded;
}

/** Calls `work` with one after another, and pauses once it has taken {@link TOKENISE_MS}. */
async function inSlices<T>(
  all: readonly T[],
  pause: () => Promise<void>,
  work: (one: T, index: number) => void,
): Promise<void> {
  let start = performance.now();
  for (const [index, one] of all.entries()) {
    work(one, index);
    if (performance.now() - start < TOKENISE_MS) continue;
    await pause();
    start = performance.now();
  }
}
