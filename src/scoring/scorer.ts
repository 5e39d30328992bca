import { InputError } from "../errors.ts";
import { type Gpu, Program, withRoom } from "../gpu/mod.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import { alignSharing } from "../model/rope.ts";
import type { BatchLive } from "../model/batch.ts";
import { DecoderPass } from "../model/pass.ts";
import { mostTokens } from "../model/pass_buffers.ts";
import {
  checkTokenIds,
  encodeComparison,
  type EncodedGroup,
  type EncodeSettings,
} from "../preference/encode.ts";
import { groupTokens, packGroups, splitIntoBatches } from "../preference/pack.ts";
import type { Text } from "../preference/rows.ts";
import type { Tokenizer } from "../preference/tokenizer.ts";
import type {
  LikeliestToken,
  ScoredCandidate,
  ScoredItem,
  ScoredSequence,
  ScoreRequest,
  SequenceRequest,
} from "./request.ts";

/** A decoder with what turns text into its tokens. */
export interface ScoringModel {
  readonly config: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly decoder: Decoder;
}

/** Some candidates of one item: a prompt with more candidates than a batch holds is put before several runs of them. */
interface Part {
  /** Index in the item's candidates of the part's first. */
  readonly first: number;
  readonly group: EncodedGroup;
}

const SMALLEST_BUDGET = 256;
/** Tokens of a batch: large enough to fill the device, small enough that a training step need not wait long. */
const LARGEST_BUDGET = { software: 2048, gpu: 8192 };

/** Milliseconds of tokenising in one go: a long request must hold up neither training nor a stop. */
const TOKENISE_MS = 50;
/** No text in use has this many characters to a token: what passes it is refused before it is tokenised at length. */
const CHARACTERS_A_TOKEN = 100;

/** Scores candidates with one decoder, in batches; buffers grow with the largest batch so far. */
export class Scorer {
  readonly #gpu: Gpu;
  readonly #model: ScoringModel;
  readonly #makeRoom: () => boolean;
  #pass: DecoderPass | null = null;
  #program: Program<BatchLive> | null = null;

  /** @param makeRoom called where the device has no room; whether it is worth another attempt */
  constructor(gpu: Gpu, model: ScoringModel, makeRoom: () => boolean) {
    this.#gpu = gpu;
    this.#model = model;
    this.#makeRoom = makeRoom;
  }

  /**
   * Ranks each item's candidates by their average log-prob under the model.
   *
   * @returns items in order; each step of the generator is one batch on the GPU, and gives the items it finished, or
   * some of the tokenising before, and gives none
   * @throws {InputError} naming the item and candidate, before anything is scored
   */
  async *score(
    request: Pick<ScoreRequest, "items" | "chat_template" | "beta" | "token_logprobs">,
  ): AsyncGenerator<ScoredItem[]> {
    const tokenizer = this.#model.tokenizer.withChatTemplate(request.chat_template);
    const groups: EncodedGroup[] = [];
    let start = performance.now();
    for (const [index, item] of request.items.entries()) {
      groups.push(this.#encode(tokenizer, item, index));
      if (performance.now() - start < TOKENISE_MS) continue;
      yield [];
      start = performance.now();
    }
    const parts = groups.flatMap((group) => splitCandidates(group, this.#largestBudget));
    for (const { group, first } of parts) this.#refuseUnbindable(group, first);
    const firstOf = new Map(parts.map(({ group, first }) => [group, first]));

    let item = 0;
    let candidates: Omit<ScoredCandidate, "rank">[] = [];
    for (const batch of this.#batches(parts.map(({ group }) => group))) {
      const scored = await this.#run(batch, request);
      const finished: ScoredItem[] = [];
      for (const [i, group] of batch.entries()) {
        const first = firstOf.get(group)!;
        for (const candidate of scored[i]!) candidates.push({ ...candidate, index: first + candidate.index });
        if (candidates.length < groups[item]!.responses.length) continue;
        finished.push(rank(candidates, groups[item]!, item));
        candidates = [];
        item++;
      }
      yield finished;
    }
  }

  /**
   * Scores every token of whole sequences, and finds the likeliest at each place and after the last.
   *
   * @returns sequences in order; steps of the generator as in {@link score}
   * @throws {InputError} naming the prompt, before anything is scored
   */
  async *scoreSequences(
    { prompts, ...settings }: Pick<SequenceRequest, "prompts" | "add_special_tokens" | "max_tokens">,
  ): AsyncGenerator<ScoredSequence[]> {
    const groups: EncodedGroup[] = [];
    let start = performance.now();
    for (const [index, prompt] of prompts.entries()) {
      groups.push(this.#encodePrompt(prompt, index, settings));
      if (performance.now() - start < TOKENISE_MS) continue;
      yield [];
      start = performance.now();
    }
    for (const batch of this.#batches(groups)) {
      yield await this.#runSequences(batch, prompts);
    }
  }

  free(): void {
    this.#program?.free();
    this.#pass?.free();
    this.#program = null;
    this.#pass = null;
  }

  /** Scores the groups of one batch; candidates are numbered within their group. */
  async #run(
    batch: readonly EncodedGroup[],
    { beta, token_logprobs }: Pick<ScoreRequest, "beta" | "token_logprobs">,
  ): Promise<Omit<ScoredCandidate, "rank">[][]> {
    const packed = packGroups(batch);
    const { pass, program } = await this.#prepare(packed.tokens);
    program.run({ ...pass.upload(packed), dropout_seed: 0 });
    const [averages, logprobs] = await this.#gpu.read(pass.averages, pass.logprobs) as [
      Float32Array,
      Float32Array,
    ];
    const scored: Omit<ScoredCandidate, "rank">[][] = batch.map(() => []);
    for (const [sequence, { group, response, num_tokens }] of packed.sequence_info.entries()) {
      const average_logprob = averages[2 * sequence]!;
      const [from, to] = [packed.sequence_rows[sequence]!, packed.sequence_rows[sequence + 1]!];
      scored[group]!.push({
        index: response,
        average_logprob,
        sum_logprob: average_logprob * num_tokens,
        num_tokens,
        reward: beta * average_logprob,
        truncated: batch[group]!.prompt_truncated > 0,
        ...(token_logprobs && {
          tokens: Array.from(packed.targets.subarray(from, to), (id) => this.#model.tokenizer.token(id)),
          token_logprobs: [...logprobs.subarray(from, to)],
        }),
      });
    }
    return scored;
  }

  /** Scores the sequences of one batch, of which each is a group with one response and no prompt. */
  async #runSequences(
    batch: readonly EncodedGroup[],
    prompts: SequenceRequest["prompts"],
  ): Promise<ScoredSequence[]> {
    const { tokenizer } = this.#model;
    const packed = packGroups(batch);
    const { pass, program } = await this.#prepare(packed.tokens);
    program.run({ ...pass.upload(packed), dropout_seed: 0 });
    const [logprobs, state, likeliest] = await this.#gpu.read(
      pass.logprobs,
      pass.head_state,
      pass.likeliest!,
    ) as [Float32Array, Float32Array, Uint32Array];
    return batch.map(({ row, responses }, sequence) => {
      const token_ids = [...responses[0]!.tokens];
      const [from, to] = [packed.sequence_rows[sequence]!, packed.sequence_rows[sequence + 1]!];
      const token_logprobs = [...logprobs.subarray(from, to - 1)];
      const best = Array.from(likeliest.subarray(from, to), (id, i): LikeliestToken => {
        const own = id === token_ids[i + 1] ? token_logprobs[i] : undefined;
        return { id, token: tokenizer.token(id), logprob: own ?? -Math.log(state[4 * (from + i) + 1]!) };
      });
      const bad = [...token_logprobs, ...best.map(({ logprob }) => logprob)].find((x) => !Number.isFinite(x));
      if (bad !== undefined) throw notFinite(`a token of prompt[${row - 1}]`, bad);
      const prompt = prompts[row - 1]!;
      return {
        text: typeof prompt === "string" ? prompt : tokenizer.decode(prompt),
        token_ids,
        tokens: token_ids.map((id) => tokenizer.token(id)),
        token_logprobs,
        likeliest: best,
      };
    });
  }

  async #prepare(tokens: number): Promise<{ pass: DecoderPass; program: Program<BatchLive> }> {
    if (!this.#pass || !this.#program || this.#pass.budget.tokens < tokens) {
      this.free();
      const size = Math.min(this.#mostTokens, Math.max(SMALLEST_BUDGET, 2 ** Math.ceil(Math.log2(tokens))));
      const budget = { tokens: size, rows: size, sequences: size };
      const make = () => new DecoderPass(this.#gpu, this.#model.decoder, budget, { mode: "score" });
      this.#pass = await withRoom(this.#makeRoom, () => this.#gpu.allocate(make));
      this.#program = new Program(this.#gpu, "score");
      this.#pass.recordForward(this.#program);
    }
    return { pass: this.#pass, program: this.#program };
  }

  get #mostTokens(): number {
    return mostTokens(this.#gpu, this.#model.config);
  }

  /** Tokens of a batch where no group needs more. */
  get #largestBudget(): number {
    return Math.min(LARGEST_BUDGET[this.#gpu.software ? "software" : "gpu"], this.#mostTokens);
  }

  #batches(groups: readonly EncodedGroup[]): EncodedGroup[][] {
    const longest = groups.reduce((most, group) => Math.max(most, groupTokens(group)), 0);
    return splitIntoBatches(groups, Math.max(longest, this.#largestBudget));
  }

  /** @throws {InputError} where the device has no room for a prompt with one of its candidates */
  #refuseUnbindable(group: EncodedGroup, candidate: number): void {
    const field = `items[${group.row - 1}].candidates[${candidate}]`;
    this.#refuseUnbindableTokens(groupTokens(group), field, `${field} takes`, " with its prompt");
  }

  #refuseUnbindableTokens(tokens: number, field: string, takes: string, beside: string): void {
    if (tokens <= this.#mostTokens) return;
    throw new InputError(
      `${takes} ${tokens} tokens${beside}, more than a batch of this model may have here.`,
      {
        field,
        value: `${tokens} tokens`,
        accepted: `at most ${this.#mostTokens} tokens on this device`,
      },
    );
  }

  /** A prompt as a group without a shared part: every token after the first is scored, and what follows the last. */
  #encodePrompt(
    prompt: string | readonly number[],
    index: number,
    { add_special_tokens, max_tokens }: Pick<SequenceRequest, "add_special_tokens" | "max_tokens">,
  ): EncodedGroup {
    const { config, tokenizer } = this.#model;
    const field = `prompt[${index}]`;
    const context = config.context_length;
    let ids = prompt;
    if (typeof ids === "string") {
      refuseEndless(ids, context, field);
      ids = tokenizer.encode(ids);
      const { bos, addBos } = tokenizer;
      if (add_special_tokens && addBos && bos !== null && ids[0] !== bos) ids = [bos, ...ids];
    }
    const group: EncodedGroup = {
      row: index + 1,
      prompt: new Uint32Array(),
      responses: [{ tokens: Uint32Array.from(ids), scored_from: 1, truncated: false, predicts_next: true }],
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
    this.#refuseUnbindableTokens(ids.length, field, `${field} takes`, "");
    return group;
  }

  /** An item as tokens: its prompt is cut where the context demands it, a candidate never. */
  #encode(tokenizer: Tokenizer, item: ScoreRequest["items"][number], index: number): EncodedGroup {
    const { config } = this.#model;
    const context = config.context_length;
    refuseEndless(item.prompt, context, `items[${index}].prompt`);
    for (const [i, text] of item.candidates.entries()) {
      refuseEndless(text, context, `items[${index}].candidates[${i}]`);
    }
    const comparison = { row: index + 1, prompt: item.prompt, responses: item.candidates };
    const whole = encodeWithin(tokenizer, comparison, index, {
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
    return alignSharing(ropes, encodeWithin(tokenizer, comparison, index, limits));
  }
}

function encodeWithin(
  tokenizer: Tokenizer,
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

/** Runs of an item's candidates such that each, with its prompt, fits a batch where that can be. */
function splitCandidates(group: EncodedGroup, budget: number): Part[] {
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
    parts.push({ first, group: { ...group, responses: group.responses.slice(first, first + count) } });
    first += count;
  }
  return parts;
}

function notFinite(what: string, logprob: number): InputError {
  return new InputError(`The model gives ${what} a log-prob of ${logprob}.`, {
    field: "model",
    value: logprob,
    accepted: "a model whose activations are finite",
  });
}

function rank(
  candidates: readonly Omit<ScoredCandidate, "rank">[],
  group: EncodedGroup,
  item: number,
): ScoredItem {
  const bad = candidates.find(({ average_logprob }) => !Number.isFinite(average_logprob));
  if (bad) {
    const field = `items[${item}].candidates[${bad.index}]`;
    throw notFinite(field, bad.average_logprob);
  }
  const order = candidates.map(({ index }) => index)
    .sort((a, b) => candidates[b]!.average_logprob - candidates[a]!.average_logprob || a - b);
  const candidate_tokens = candidates.reduce((sum, { num_tokens }) => sum + num_tokens, 0);
  const total_tokens = groupTokens(group);
  const second = order[1];
  return {
    results: candidates.map((candidate) => ({ ...candidate, rank: order.indexOf(candidate.index) + 1 })),
    best: order[0]!,
    margin: second === undefined
      ? null
      : candidates[order[0]!]!.average_logprob - candidates[second]!.average_logprob,
    usage: { prompt_tokens: total_tokens - candidate_tokens, candidate_tokens, total_tokens },
  };
}
