import type { UsedEncoding } from "../api/score.ts";
import { InputError, type Path, within } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import type { Decoder } from "../model/decoder.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { type Answer, Batches, type BatchOptions } from "./batches.ts";
import {
  type EncodedItem,
  encodeItem,
  encodeSequence,
  type EncodingModel,
  type SequenceSettings,
  splitCandidates,
  usedEncoding,
} from "./encode.ts";
import type {
  LikeliestToken,
  ScoredCandidate,
  ScoredItem,
  ScoredSequence,
  ScoreRequest,
  SequenceRequest,
} from "./request.ts";

/** A decoder with what turns text into its tokens. */
export interface ScoringModel extends EncodingModel {
  readonly decoder: Decoder;
}

/** Milliseconds of tokenising in one go: a long request must hold up neither training nor a stop. */
const TOKENISE_MS = 50;

/** Scores with one decoder what requests ask for; those that wait at one time share batches. */
export class Scorer {
  readonly #model: ScoringModel;
  readonly #batches: Batches;

  constructor(gpu: Gpu, model: ScoringModel, options: BatchOptions) {
    this.#model = model;
    this.#batches = new Batches(gpu, model.decoder, options);
  }

  /** How many batches the device has scored. */
  get batches(): number {
    return this.#batches.count;
  }

  /**
   * Ranks each item's candidates by their average log-prob under the model.
   *
   * @returns items in order; each step of the generator is at most one batch on the GPU, and gives the items that are
   * finished, or some of the tokenising before, and gives none. The step that ends the tokenising runs no batch: requests
   * that have come so far before any of them goes on share one.
   * @throws {InputError} naming the item and candidate, before anything is scored
   */
  async *score(
    { items, chat_template, encoding, beta, token_logprobs }: Pick<
      ScoreRequest,
      "items" | "chat_template" | "encoding" | "beta" | "token_logprobs"
    >,
  ): AsyncGenerator<ScoredItem[]> {
    const encoded: EncodedItem[] = [];
    const { config, tokenizer } = this.#model;
    const model = { config, tokenizer: tokenizer.withChatTemplate(chat_template) };
    const used = usedEncoding(encoding, config.context_length);
    const encode = (item: ScoreRequest["items"][number], i: number) =>
      within(["items", i], () => encoded.push(encodeItem(model, item, i, used)));
    for (const _ of inSlices(items, encode)) yield [];
    const { largestBudget, mostTokens } = this.#batches;
    const parts = encoded.flatMap((item, i) =>
      within(["items", i], () => splitCandidates(item, largestBudget, mostTokens))
    );
    let part = 0;
    let next = 0;
    let known = 0;
    let candidates: Unranked[] = [];
    for await (const answers of this.#batches.answers(parts.map(({ group }) => group))) {
      const finished: ScoredItem[] = [];
      const finish = () => {
        for (let item = encoded[next]; item?.candidates.length === candidates.length; item = encoded[next]) {
          const one = item;
          finished.push(within(["items", next], () => rank(candidates, one, known, used, token_logprobs)));
          candidates = [];
          known = 0;
          next++;
        }
      };
      finish(); // those before it that have nothing to score
      for (const answer of answers) {
        const { first, group } = parts[part++]!;
        if (first === 0) known = answer.known;
        const { candidates: indices } = encoded[next]!;
        for (const [i, { average_logprob, logprobs, targets }] of answer.responses.entries()) {
          const candidate_truncated = group.responses[i]!.truncated;
          candidates.push({
            index: indices[first + i]!,
            average_logprob,
            sum_logprob: average_logprob * targets.length,
            num_tokens: targets.length,
            reward: beta * average_logprob,
            truncated: candidate_truncated || group.prompt_truncated > 0,
            candidate_truncated,
            ...(token_logprobs && {
              tokens: Array.from(targets, (id) => tokenizer.token(id)),
              token_logprobs: [...logprobs],
            }),
          });
        }
        finish();
      }
      yield finished;
    }
  }

  /**
   * Scores every token of whole sequences where that is asked for, and finds the likeliest at each place and after the
   * last.
   *
   * @returns sequences in order; steps of the generator as in {@link score}
   * @throws {InputError} naming the prompt, before anything is scored
   */
  async *scoreSequences(
    { prompts, ...settings }: Pick<SequenceRequest, "prompts"> & SequenceSettings,
  ): AsyncGenerator<ScoredSequence[]> {
    const groups: EncodedGroup[] = [];
    const encode = (prompt: string | readonly number[], i: number) =>
      within(
        ["prompt", i],
        () => groups.push(encodeSequence(this.#model, prompt, i, settings, this.#batches.mostTokens)),
      );
    for (const _ of inSlices(prompts, encode)) yield [];
    let next = 0;
    for await (const answers of this.#batches.answers(groups)) {
      yield answers.map((answer) => this.#sequence(prompts[next]!, groups[next]!, answer, next++));
    }
  }

  /** Lets go of what it can do without. @returns whether there was anything */
  shrink(): boolean {
    return this.#batches.shrink();
  }

  /** Lets go of everything on the device but the model. */
  free(): void {
    this.#batches.free();
  }

  #sequence(
    prompt: string | readonly number[],
    group: EncodedGroup,
    { responses: [answer], known }: Answer,
    index: number,
  ): ScoredSequence {
    const { tokenizer } = this.#model;
    const scored = group.responses[0]!.tokens;
    const token_ids = [...group.prompt, ...scored];
    const token_logprobs = [...answer!.logprobs.subarray(0, -1)];
    const likeliest = answer!.likeliest!.map(({ id, logprob }, i): LikeliestToken => {
      const own = id === scored[i + 1] ? token_logprobs[i] : undefined;
      return { id, token: tokenizer.token(id), logprob: own ?? logprob };
    });
    const bad = [...token_logprobs, ...likeliest.map(({ logprob }) => logprob)]
      .find((x) => !Number.isFinite(x));
    if (bad !== undefined) throw notFinite("a token of ", ["prompt", index], bad);
    return {
      text: typeof prompt === "string" ? prompt : tokenizer.decode(prompt),
      token_ids,
      tokens: token_ids.map((id) => tokenizer.token(id)),
      token_logprobs,
      likeliest,
      cached_prompt_tokens: known,
    };
  }
}

/** Calls `work` with one after another; a step ends once it has taken {@link TOKENISE_MS}. */
function* inSlices<T>(all: readonly T[], work: (one: T, index: number) => void): Generator<void> {
  let start = performance.now();
  for (const [index, one] of all.entries()) {
    work(one, index);
    if (performance.now() - start < TOKENISE_MS) continue;
    yield;
    start = performance.now();
  }
}

function notFinite(what: string, path: Path, logprob: number): InputError {
  return new InputError((place) => `The model gives ${what}${place} a log-prob of ${logprob}.`, {
    path,
    value: logprob,
    accepted: "a model whose activations are finite",
  });
}

/** A candidate that was scored, before its rank is known. */
type Unranked = Omit<ScoredCandidate, "rank"> & { readonly average_logprob: number };

/** @param scored in their order; those that were left out come in between */
function rank(
  scored: readonly Unranked[],
  { group, left_out }: EncodedItem,
  cached_prompt_tokens: number,
  encoding: UsedEncoding,
  token_logprobs: boolean,
): ScoredItem {
  const bad = scored.find(({ average_logprob }) => !Number.isFinite(average_logprob));
  if (bad) throw notFinite("", ["candidates", bad.index], bad.average_logprob);
  const order = [...scored].sort(byScore);
  const [first, second] = order;
  const ranks = new Map(order.map(({ index }, i) => [index, i + 1]));
  const unscored = [...left_out].map(([index, fault]): ScoredCandidate => ({
    index,
    rank: null,
    average_logprob: null,
    sum_logprob: null,
    num_tokens: 0,
    reward: null,
    truncated: false,
    candidate_truncated: false,
    ...(token_logprobs && { tokens: [], token_logprobs: [] }),
    reason: `The candidate ${fault}.`,
  }));
  const candidate_tokens = scored.reduce((sum, { num_tokens }) => sum + num_tokens, 0);
  const total_tokens = group === null ? 0 : groupTokens(group);
  const { chat_template_kwargs: _, ...shown } = encoding;
  return {
    results: [...scored.map((one) => ({ ...one, rank: ranks.get(one.index)! })), ...unscored]
      .sort((a, b) => a.index - b.index),
    best: first?.index ?? null,
    margin: first && second ? first.average_logprob - second.average_logprob : null,
    prompt_truncated: group?.prompt_truncated ?? 0,
    encoding: shown,
    usage: {
      prompt_tokens: total_tokens - candidate_tokens,
      cached_prompt_tokens,
      candidate_tokens,
      total_tokens,
    },
  };
}

/** The best first; ties keep the request's order. */
function byScore(a: Unranked, b: Unranked): number {
  return b.average_logprob - a.average_logprob || a.index - b.index;
}
