import type { UsedEncoding } from "../api/score.ts";
import { InputError, type Path, within } from "../errors.ts";
import type { Gpu } from "../gpu/mod.ts";
import type { Decoder } from "../model/decoder.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { type Answer, Batches, type BatchOptions } from "./batches.ts";
import type { EncodedItem } from "./encode.ts";
import type { EncodedScore, EncodedSequences } from "./encode_request.ts";
import { refuseUnbindable, splitCandidates } from "./parts.ts";
import type { ScoredCandidate, ScoredItem, ScoredTokens } from "./request.ts";

/** Scores with one decoder what requests ask for; those that wait at one time share batches. */
export class Scorer {
  readonly #batches: Batches;

  constructor(gpu: Gpu, decoder: Decoder, options: BatchOptions) {
    this.#batches = new Batches(gpu, decoder, options);
  }

  /** How many batches the device has scored. */
  get batches(): number {
    return this.#batches.count;
  }

  /**
   * Ranks each item's candidates by their average log-prob under the model.
   *
   * @returns items in order; each step of the generator is at most one batch on the GPU, and gives the items that are
   * finished. The first runs no batch: requests that have come so far before any of them goes on share one.
   * @throws {InputError} naming the item and candidate
   */
  async *score({ items, encoding, beta, names }: EncodedScore): AsyncGenerator<ScoredItem[]> {
    const { largestBudget, mostTokens } = this.#batches;
    const parts = items.flatMap((item, i) =>
      within(["items", i], () => splitCandidates(item, largestBudget, mostTokens))
    );
    let part = 0;
    let next = 0;
    let known = 0;
    let candidates: Unranked[] = [];
    for await (const answers of this.#batches.answers(parts.map(({ group }) => group))) {
      const finished: ScoredItem[] = [];
      const finish = () => {
        for (let item = items[next]; item?.candidates.length === candidates.length; item = items[next]) {
          const one = item;
          finished.push(
            within(["items", next], () => rank(candidates, one, known, encoding, names !== null)),
          );
          candidates = [];
          known = 0;
          next++;
        }
      };
      finish(); // those before it that have nothing to score
      for (const answer of answers) {
        const { first, group } = parts[part++]!;
        if (first === 0) known = answer.known;
        const { candidates: indices } = items[next]!;
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
            ...(names !== null && {
              tokens: Array.from(targets, (id) => names.get(id) ?? ""),
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
   * @throws {InputError} naming the prompt
   */
  async *scoreSequences({ groups }: Pick<EncodedSequences, "groups">): AsyncGenerator<ScoredTokens[]> {
    for (const [i, group] of groups.entries()) {
      within(["prompt", i], () => refuseUnbindable(groupTokens(group), this.#batches.mostTokens, ""));
    }
    let next = 0;
    for await (const answers of this.#batches.answers(groups)) {
      yield answers.map((answer) => scoredTokens(groups[next]!, answer, next++));
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
}

function scoredTokens(
  group: EncodedGroup,
  { responses: [answer], known }: Answer,
  index: number,
): ScoredTokens {
  const scored = group.responses[0]!.tokens;
  const token_logprobs = [...answer!.logprobs.subarray(0, -1)];
  const likeliest = answer!.likeliest!.map(({ id, logprob }, i) => {
    const own = id === scored[i + 1] ? token_logprobs[i] : undefined;
    return { id, logprob: own ?? logprob };
  });
  const bad = [...token_logprobs, ...likeliest.map(({ logprob }) => logprob)]
    .find((x) => !Number.isFinite(x));
  if (bad !== undefined) throw notFinite("a token of ", ["prompt", index], bad);
  return { token_ids: [...group.prompt, ...scored], token_logprobs, likeliest, cached_prompt_tokens: known };
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
