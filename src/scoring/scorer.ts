import { InputError } from "../errors.ts";
import { type Gpu, GpuMemoryError, Program, withRoom } from "../gpu/mod.ts";
import type { BatchLive } from "../model/batch.ts";
import type { Decoder } from "../model/decoder.ts";
import { DecoderPass } from "../model/pass.ts";
import { mostTokens } from "../model/pass_buffers.ts";
import type { KeyValues } from "../model/pass_buffers.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import {
  encodeItem,
  encodeSequence,
  type EncodingModel,
  type SequenceSettings,
  splitCandidates,
} from "./encode.ts";
import { type BatchPlan, PromptCache } from "./prompt_cache.ts";
import { BatchQueue, type Place, type Ticket } from "./queue.ts";
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

/** What a batch finds of one response. */
interface ScoredResponse {
  readonly average_logprob: number;
  /** [rows], a row a scored token and one where the response predicts what follows it */
  readonly logprobs: Float32Array;
  /** [rows] */
  readonly targets: Uint32Array;
  /** The likeliest token of each row; where the response predicts what follows it. */
  readonly likeliest?: readonly { readonly id: number; readonly logprob: number }[];
}

/** What a batch finds of a group. */
interface Answer {
  /** In their order. */
  readonly responses: readonly ScoredResponse[];
  /** Tokens of the prompt that were not computed. */
  readonly known: number;
}

/** How a scorer goes about it. */
export interface ScorerOptions {
  /** Bytes of keys and values of repeated prompts that stay on the GPU; 0: none do. */
  readonly promptCacheBytes: number;
  /** Called where the device has no room; whether it is worth another attempt. */
  readonly makeRoom: () => boolean;
}

const SMALLEST_BUDGET = 256;
/** Tokens of a batch: large enough to fill the device, small enough that a training step need not wait long. */
const LARGEST_BUDGET = { software: 2048, gpu: 8192 };
/** Most keys of a batch, known ones included, for each token of its budget. */
const KEYS_A_TOKEN = 4;

/** Milliseconds of tokenising in one go: a long request must hold up neither training nor a stop. */
const TOKENISE_MS = 50;

/**
 * Scores with one decoder. Requests that wait at one time share batches: whose turn it is runs one for all of them.
 * Buffers grow with the largest batch so far.
 */
export class Scorer {
  readonly #gpu: Gpu;
  readonly #model: ScoringModel;
  readonly #makeRoom: () => boolean;
  readonly #prompts: PromptCache;
  readonly #queue = new BatchQueue<EncodedGroup, Answer>();
  /** What had no finite answer beside other groups, and is to be scored alone. */
  readonly #suspects = new WeakSet<EncodedGroup>();
  /** Tokens of a batch of several groups; less than the largest where the device had no room for that. */
  #budget: number;
  #batches = 0;
  #pass: DecoderPass | null = null;
  /** What the pass has room for; keys: 0 where it knows none. */
  #room = { tokens: 0, keys: 0 };
  #program: Program<BatchLive> | null = null;
  /** For batches that know some of their keys. */
  #withKnown: { readonly program: Program<BatchLive>; readonly stored: readonly KeyValues[] } | null = null;

  constructor(gpu: Gpu, model: ScoringModel, { promptCacheBytes, makeRoom }: ScorerOptions) {
    this.#gpu = gpu;
    this.#model = model;
    this.#makeRoom = makeRoom;
    this.#prompts = new PromptCache(gpu, model.config, promptCacheBytes);
    this.#budget = this.#largestBudget;
  }

  /** How many batches the device has scored. */
  get batches(): number {
    return this.#batches;
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
    for (const _ of inSlices(items, (item, i) => groups.push(encodeItem(model, item, i)))) yield [];
    const parts = groups.flatMap((group) => splitCandidates(group, this.#largestBudget, this.#mostTokens));
    let part = 0;
    let item = 0;
    let known = 0;
    let candidates: Omit<ScoredCandidate, "rank">[] = [];
    for await (const answers of this.#answers(parts.map(({ group }) => group))) {
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
        finished.push(rank(candidates, group, item, known));
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
      groups.push(encodeSequence(this.#model, prompt, i, settings, this.#mostTokens));
    for (const _ of inSlices(prompts, encode)) yield [];
    let next = 0;
    for await (const answers of this.#answers(groups)) {
      yield answers.map((answer) => this.#sequence(prompts[next]!, groups[next]!, answer, next++));
    }
  }

  /** Lets go of what it can do without. @returns whether there was anything */
  shrink(): boolean {
    return this.#prompts.clear();
  }

  free(): void {
    this.#freePass();
    this.#prompts.clear();
  }

  #freePass(): void {
    this.#program?.free();
    this.#withKnown?.program.free();
    this.#pass?.free();
    this.#program = null;
    this.#withKnown = null;
    this.#pass = null;
    this.#room = { tokens: 0, keys: 0 };
  }

  /** Answers to groups in their order; each step but the first, which has none, is at most one batch. */
  async *#answers(groups: readonly EncodedGroup[]): AsyncGenerator<Answer[]> {
    if (this.#queue.size === 0) this.#budget = this.#largestBudget; // there may be room again
    const ticket = this.#queue.join(groups);
    try {
      yield [];
      for (let given = 0; given < groups.length;) {
        if (ticket.answers.length === 0) await this.#runBatch(ticket);
        const answers = ticket.answers.splice(0);
        given += answers.length;
        yield answers;
      }
    } finally {
      this.#queue.leave(ticket);
    }
  }

  /** Scores what waits, the ticket's next group first; where the device has no room for several groups, fewer of them. */
  async #runBatch(first: Ticket<EncodedGroup, Answer>): Promise<void> {
    for (;;) {
      const plan = this.#prompts.plan();
      const mostKeys = Math.min(KEYS_A_TOKEN * this.#budget, this.#mostTokens);
      let alone = false;
      const batch = this.#queue.fill(first, (group) => {
        const size = plan.size + plan.sizeOf(group);
        const keys = plan.keys + groupTokens(group);
        const suspect = this.#suspects.has(group);
        if (plan.size > 0 && (alone || suspect || size > this.#budget || keys > mostKeys)) return false;
        alone = suspect;
        plan.add(group);
        return true;
      });
      try {
        const answers = await this.#run(batch.map(({ group }) => group), plan);
        if (answers) return this.#answer(batch, answers);
      } catch (error) {
        this.#prompts.clear(); // what the plan would have kept is not there
        if (!(error instanceof GpuMemoryError)) throw error;
        if (plan.knownKeys) this.#prompts.pause(); // there may be room where nothing is known
        else if (batch.length > 1) this.#budget = Math.floor(plan.size / 2);
        else throw error;
        this.#freePass(); // smaller buffers take their place
      }
    }
  }

  /**
   * Gives a batch its answers. Attention takes values of other groups times 0, and 0 times infinity is NaN: what is not
   * finite may be a neighbour's fault, which is scored again alone, and so may what was kept of any prompt.
   */
  #answer(batch: readonly Place<EncodedGroup, Answer>[], answers: readonly Answer[]): void {
    const fine = answers.map(isFiniteAnswer);
    if (fine.includes(false)) this.#prompts.clear();
    if (batch.length === 1) return this.#queue.answer(batch, answers);
    for (const [i, { group }] of batch.entries()) if (!fine[i]) this.#suspects.add(group);
    this.#queue.answer(batch, answers.map((answer, i) => fine[i] ? answer : null));
  }

  /** @returns null where what the plan counts on was let go of meanwhile */
  async #run(batch: readonly EncodedGroup[], plan: BatchPlan): Promise<Answer[] | null> {
    const packed = plan.pack();
    const { knownKeys } = plan;
    const pass = await this.#passFor(plan.size, knownKeys ? plan.keys : 0);
    const stored = knownKeys && await this.#prompts.stored();
    if (!this.#prompts.holds(plan)) return null;
    const program = this.#programFor(pass, stored);
    program.run({ ...pass.upload(packed, knownKeys), dropout_seed: 0 });
    this.#batches++;
    const some = batch.some(predictsNext);
    const [averages, logprobs, state, likeliest] = await this.#gpu.read(
      pass.averages,
      pass.logprobs,
      ...some ? [pass.head_state, pass.likeliest!] : [],
    ) as [Float32Array, Float32Array, Float32Array?, Uint32Array?];
    const answers = plan.known.map((known) => ({ known, responses: [] as ScoredResponse[] }));
    for (const [sequence, { group }] of packed.sequence_info.entries()) {
      const [from, to] = [packed.sequence_rows[sequence]!, packed.sequence_rows[sequence + 1]!];
      answers[group]!.responses.push({
        average_logprob: averages[2 * sequence]!,
        logprobs: logprobs.subarray(from, to),
        targets: packed.targets.subarray(from, to),
        ...(state && likeliest && predictsNext(batch[group]!) && {
          likeliest: Array.from(likeliest.subarray(from, to), (id, i) => ({
            id,
            logprob: -Math.log(state[4 * (from + i) + 1]!),
          })),
        }),
      });
    }
    return answers;
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
    if (bad !== undefined) throw notFinite(`a token of prompt[${index}]`, bad);
    return {
      text: typeof prompt === "string" ? prompt : tokenizer.decode(prompt),
      token_ids,
      tokens: token_ids.map((id) => tokenizer.token(id)),
      token_logprobs,
      likeliest,
      cached_prompt_tokens: known,
    };
  }

  /** @param keys that tokens of the batch attend to, where some are known; else 0 */
  async #passFor(tokens: number, keys: number): Promise<DecoderPass> {
    const had = this.#room;
    if (this.#pass && had.tokens >= tokens && had.keys >= keys) return this.#pass;
    this.#freePass();
    const roundedUp = (wanted: number) =>
      Math.min(this.#mostTokens, Math.max(SMALLEST_BUDGET, 2 ** Math.ceil(Math.log2(wanted))));
    const mostKeys = Math.max(keys, had.keys);
    const rounded = {
      tokens: roundedUp(Math.max(tokens, had.tokens)),
      keys: mostKeys === 0 ? 0 : roundedUp(mostKeys),
    };
    try {
      return await withRoom(this.#makeRoom, () => this.#makePass(rounded));
    } catch (error) {
      if (!(error instanceof GpuMemoryError)) throw error;
      return await this.#makePass({ tokens, keys });
    }
  }

  async #makePass(room: { readonly tokens: number; readonly keys: number }): Promise<DecoderPass> {
    const { tokens, keys } = room;
    this.#pass = await this.#gpu.allocate(() =>
      new DecoderPass(
        this.#gpu,
        this.#model.decoder,
        { tokens, rows: tokens, sequences: tokens },
        { mode: "score", ...(keys > 0 && { keys }) },
      )
    );
    this.#room = room;
    return this.#pass;
  }

  #programFor(pass: DecoderPass, stored: readonly KeyValues[] | null): Program<BatchLive> {
    if (!stored) {
      if (this.#program) return this.#program;
      this.#program = new Program(this.#gpu, "score");
      pass.recordForward(this.#program);
      return this.#program;
    }
    if (this.#withKnown?.stored === stored) return this.#withKnown.program;
    this.#withKnown?.program.free();
    const program = new Program<BatchLive>(this.#gpu, "score_known");
    pass.recordForward(program, stored);
    this.#withKnown = { program, stored };
    return program;
  }

  get #mostTokens(): number {
    return mostTokens(this.#gpu, this.#model.config);
  }

  /** Tokens of a batch where no group needs more. */
  get #largestBudget(): number {
    return Math.min(LARGEST_BUDGET[this.#gpu.software ? "software" : "gpu"], this.#mostTokens);
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

function predictsNext({ responses }: EncodedGroup): boolean {
  return responses.some(({ predicts_next }) => predicts_next);
}

function isFiniteAnswer({ responses }: Answer): boolean {
  return responses.every(({ logprobs, likeliest = [] }) =>
    logprobs.every(Number.isFinite) && likeliest.every(({ logprob }) => Number.isFinite(logprob))
  );
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
  cached_prompt_tokens: number,
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
    usage: {
      prompt_tokens: total_tokens - candidate_tokens,
      cached_prompt_tokens,
      candidate_tokens,
      total_tokens,
    },
  };
}
