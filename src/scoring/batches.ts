import { type Gpu, GpuMemoryError } from "../gpu/mod.ts";
import type { ModelConfig } from "../model/config.ts";
import type { Decoder } from "../model/decoder.ts";
import { mostTokens } from "../model/pass_layers.ts";
import type { EncodedGroup } from "../preference/encode.ts";
import { groupTokens } from "../preference/pack.ts";
import { GrowingPass } from "./growing_pass.ts";
import { type BatchPlan, PromptCache } from "./prompt_cache.ts";
import { BatchQueue, type Place, type Ticket } from "./queue.ts";

/** What a batch finds of one response. */
export interface ScoredResponse {
  readonly average_logprob: number;
  /** [rows], a row a scored token and one where the response predicts what follows it */
  readonly logprobs: Float32Array;
  /** [rows] */
  readonly targets: Uint32Array;
  /** The likeliest token of each row; where the response predicts what follows it. */
  readonly likeliest?: readonly { readonly id: number; readonly logprob: number }[];
}

/** What a batch finds of a group. */
export interface Answer {
  /** In their order. */
  readonly responses: readonly ScoredResponse[];
  /** Tokens of the prompt that were not computed. */
  readonly known: number;
}

/** How batches are gone about. */
export interface BatchOptions {
  /** Bytes of keys and values of repeated prompts that stay on the GPU; 0: none do. */
  readonly promptCacheBytes: number;
  /** Called where the device has no room; whether it is worth another attempt. */
  readonly makeRoom: () => boolean;
  /**
   * Asked before each batch: the milliseconds that it may take, as far as that can be told; null where it is to wait for
   * another step. Without it the device is nobody else's.
   */
  readonly takeBatch?: () => number | null;
}

/** Tokens of a batch: large enough to fill the device, small enough that a training step need not wait long. */
const LARGEST_BUDGET = { software: 2048, gpu: 8192 };
/** Tokens of a batch below which less time would hardly be spent. */
const SMALLEST_BUDGET = 256;
/** Most keys of a batch, known ones included, for each token of its budget. */
const KEYS_A_TOKEN = 4;

/** Answers groups of tokens in batches, which those share that wait at one time: whose turn it is runs one for all of them. */
export class Batches {
  readonly #config: ModelConfig;
  readonly #takeBatch: () => number | null;
  readonly #prompts: PromptCache;
  readonly #pass: GrowingPass;
  readonly #queue = new BatchQueue<EncodedGroup, Answer>();
  /** What had no finite answer beside other groups, and is to be scored alone. */
  readonly #suspects = new WeakSet<EncodedGroup>();
  /** Tokens of a batch of several groups; less than the largest where the device had no room for that. */
  #budget: number;
  #count = 0;
  /** Of the last batch; 0 before there was one. */
  #tokensPerMs = 0;

  constructor(
    private readonly gpu: Gpu,
    decoder: Decoder,
    { promptCacheBytes, makeRoom, takeBatch = () => Infinity }: BatchOptions,
  ) {
    this.#config = decoder.config;
    this.#takeBatch = takeBatch;
    this.#prompts = new PromptCache(gpu, decoder.config, promptCacheBytes);
    this.#pass = new GrowingPass(gpu, decoder, makeRoom);
    this.#budget = this.largestBudget;
  }

  /** How many the device has run. */
  get count(): number {
    return this.#count;
  }

  /** The most tokens that a batch may have on this device. */
  get mostTokens(): number {
    return mostTokens(this.gpu, this.#config);
  }

  /** Tokens of a batch where no group needs more. */
  get largestBudget(): number {
    return Math.min(LARGEST_BUDGET[this.gpu.software ? "software" : "gpu"], this.mostTokens);
  }

  /** Lets go of what it can do without. @returns whether there was anything */
  shrink(): boolean {
    return this.#prompts.clear();
  }

  /** Lets go of everything on the device. */
  free(): void {
    this.#pass.free();
    this.#prompts.clear();
  }

  /** Answers to groups in their order; each step but the first, which has none, is at most one batch; none where it waits. */
  async *answers(groups: readonly EncodedGroup[]): AsyncGenerator<Answer[]> {
    if (this.#queue.size === 0) this.#budget = this.largestBudget; // there may be room again
    const ticket = this.#queue.join(groups);
    try {
      yield [];
      for (let given = 0; given < groups.length;) {
        const ms = ticket.answers.length > 0 ? null : this.#takeBatch();
        if (ms !== null) await this.#runBatch(ticket, ms);
        const answers = ticket.answers.splice(0);
        given += answers.length;
        yield answers;
      }
    } finally {
      this.#queue.leave(ticket);
    }
  }

  /**
   * Scores what waits, the ticket's next group first; where the device has no room for several groups, fewer of them.
   *
   * @param ms what it may take, for one group more where that needs it
   */
  async #runBatch(first: Ticket<EncodedGroup, Answer>, ms: number): Promise<void> {
    for (;;) {
      const plan = this.#prompts.plan();
      const budget = this.#tokensPerMs === 0
        ? this.#budget
        : Math.min(this.#budget, Math.max(ms * this.#tokensPerMs, SMALLEST_BUDGET));
      const mostKeys = Math.min(KEYS_A_TOKEN * budget, this.mostTokens);
      let alone = false;
      const batch = this.#queue.fill(first, (group) => {
        const size = plan.size + plan.sizeOf(group);
        const keys = plan.keys + groupTokens(group);
        const suspect = this.#suspects.has(group);
        if (plan.size > 0 && (alone || suspect || size > budget || keys > mostKeys)) return false;
        alone = suspect;
        plan.add(group);
        return true;
      });
      try {
        const start = performance.now();
        const answers = await this.#run(batch.map(({ group }) => group), plan);
        this.#tokensPerMs = plan.size / Math.max(performance.now() - start, 1);
        if (answers) return this.#answer(batch, answers);
      } catch (error) {
        this.#prompts.clear(); // what the plan would have kept is not there
        if (!(error instanceof GpuMemoryError)) throw error;
        if (plan.knownKeys) this.#prompts.pause(); // there may be room where nothing is known
        else if (batch.length > 1) this.#budget = Math.floor(plan.size / 2);
        else throw error;
        this.#pass.free(); // smaller buffers take their place
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
    const pass = await this.#pass.prepare(plan.size, knownKeys ? plan.keys : 0);
    const stored = knownKeys && await this.#prompts.stored();
    if (!this.#prompts.holds(plan)) return null;
    this.#pass.program(stored).run({ ...pass.upload(packed, knownKeys), dropout_seed: 0 });
    this.#count++;
    const some = batch.some(predictsNext);
    const [averages, logprobs, state, likeliest] = await this.gpu.read(
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
}

function predictsNext({ responses }: EncodedGroup): boolean {
  return responses.some(({ predicts_next }) => predicts_next);
}

function isFiniteAnswer({ responses }: Answer): boolean {
  return responses.every(({ logprobs, likeliest = [] }) =>
    logprobs.every(Number.isFinite) && likeliest.every(({ logprob }) => Number.isFinite(logprob))
  );
}
