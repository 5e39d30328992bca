import { InputError, type Path, within } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import type { Decoder } from "../model/decoder.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { type Answer, Batches, type BatchOptions } from "./batches.ts";
import {
  encodeItem,
  encodeSequence,
  type EncodingModel,
  type SequenceSettings,
  splitCandidates,
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
    { items, chat_template, beta, token_logprobs }: Pick<
      ScoreRequest,
      "items" | "chat_template" | "beta" | "token_logprobs"
    >,
  ): AsyncGenerator<ScoredItem[]> {
    const groups: EncodedGroup[] = [];
    const { config, tokenizer } = this.#model;
    const model = { config, tokenizer: tokenizer.withChatTemplate(chat_template) };
    const encode = (item: ScoreRequest["items"][number], i: number) =>
      within(["items", i], () => groups.push(encodeItem(model, item, i)));
    for (const _ of inSlices(items, encode)) yield [];
    const { largestBudget, mostTokens } = this.#batches;
    const parts = groups.flatMap((group, i) =>
      within(["items", i], () => splitCandidates(group, largestBudget, mostTokens))
    );
    let part = 0;
    let item = 0;
    let known = 0;
    let candidates: Omit<ScoredCandidate, "rank">[] = [];
    for await (const answers of this.#batches.answers(parts.map(({ group }) => group))) {
      const finished: ScoredItem[] = [];
      for (const answer of answers) {
        const { first } = parts[part++]!;
        const group = groups[item]!;
        if (first === 0) known = answer.known;
        for (const [i, { average_logprob, logprobs, targets }] of answer.responses.entries()) {
          candidates.push({
            index: first + i,
            average_logprob,
            sum_logprob: average_logprob * targets.length,
            num_tokens: targets.length,
            reward: beta * average_logprob,
            truncated: group.prompt_truncated > 0,
            ...(token_logprobs && {
              tokens: Array.from(targets, (id) => tokenizer.token(id)),
              token_logprobs: [...logprobs],
            }),
          });
        }
        if (candidates.length < group.responses.length) continue;
        finished.push(within(["items", item], () => rank(candidates, group, known)));
        candidates = [];
        item++;
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

function rank(
  candidates: readonly Omit<ScoredCandidate, "rank">[],
  group: EncodedGroup,
  cached_prompt_tokens: number,
): ScoredItem {
  const bad = candidates.find(({ average_logprob }) => !Number.isFinite(average_logprob));
  if (bad) throw notFinite("", ["candidates", bad.index], bad.average_logprob);
  const order = candidates.map(({ index }) => index)
    .sort((a, b) => candidates[b]!.average_logprob - candidates[a]!.average_logprob || a - b);
  const candidate_tokens = candidates.reduce((sum, { num_tokens }) => sum + num_tokens, 0);
  const total_tokens = groupTokens(group);
  const second = order[1];
  const ranks = new Map(order.map((index, i) => [index, i + 1]));
  return {
    results: candidates.map((candidate) => ({ ...candidate, rank: ranks.get(candidate.index)! })),
    best: order[0]!,
    margin: second === undefined
      ? null
      : candidates[order[0]!]!.average_logprob - candidates[second]!.average_logprob,
    usage: {
      prompt_tokens: total_tokens - candidate_tokens,
      cached_prompt_tokens,
      candidate_tokens,
      total_tokens,
    },
  };
}
