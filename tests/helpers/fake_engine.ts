/** An engine without a device: what the service around it does can be tested in milliseconds. */
import { readModelConfig } from "../../src/model/config.ts";
import { loadTokenizer } from "../../src/preference/tokenizer.ts";
import { inspect } from "../../src/training/inspect.ts";
import { join } from "node:path";
import type {
  CallName,
  CallOptions,
  Calls,
  DeviceReport,
  Engine,
  MemoryPlan,
  ScoreRequest,
  SequenceRequest,
  TrainEvent,
  TrainOutcome,
  TrainRequest,
} from "../../src/engine/protocol.ts";
import type { Message } from "../../src/preference/rows.ts";
import { DEFAULT_ENCODING } from "../../src/scoring/request.ts";
import { type LeftOut, type LeftOutRow, summarizeLeftOut } from "../../src/preference/left_out.ts";
import { InputError, type Interrupted, type PathPart } from "../../src/errors.ts";

/** What a fake engine does beside the obvious. */
export interface FakeOptions {
  /** Jobs at one time; 1 unless given. */
  readonly trainingSlots?: number;
  /** Steps of every job. */
  readonly steps?: number;
  /** Rows left out of every job. */
  readonly leftOut?: readonly LeftOutRow[];
  /** Awaited before each step. */
  readonly beforeStep?: (id: string, step: number) => Promise<void> | void;
  /** Awaited before each scored item; may throw. */
  readonly beforeItem?: (index: number) => Promise<void> | void;
}

type Fakes = {
  -readonly [Name in CallName]?: (
    request: Calls[Name]["request"],
    options: CallOptions<Name>,
  ) => Promise<Calls[Name]["result"]>;
};

/**
 * Scores a candidate by its length (shorter is better), trains by counting, writes a checkpoint a step.
 * A job in `failing` is refused as the user's mistake.
 */
export class FakeEngine implements Engine {
  readonly trainingSlots: number;
  readonly scored: ScoreRequest[] = [];
  readonly sequences: SequenceRequest[] = [];
  readonly trained: TrainRequest[] = [];
  /** Scoring calls that were given up before their end. */
  abandoned = 0;
  readonly failing = new Map<string, Error>();
  #stopped = false;
  /** What it does for each call; a test may put its own in place. */
  readonly handlers: Fakes = {
    device: () => Promise.resolve(device),
    memory: () => Promise.resolve({ bytes: 0, peak_bytes: 0, free_bytes: null, by_name: {} }),
    score: (request, options) => this.#score(request, options),
    sequences: (request, options) => this.#scoreSequences(request, options),
    train: (request, options) => this.#train(request, options),
    // it needs no device
    inspect: async (request) =>
      await inspect(request, {
        config: await readModelConfig(request.model),
        tokenizer: await loadTokenizer(request.model),
        pause: () => Promise.resolve(),
      }),
  };

  constructor(private readonly options: FakeOptions = {}) {
    this.trainingSlots = options.trainingSlots ?? 1;
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    options: CallOptions<Name> = {},
  ): Promise<Calls[Name]["result"]> {
    const fake = this.handlers[name] as Fakes[Name];
    if (fake === undefined) throw new Error(`The fake engine knows no call ${name}.`);
    return await fake(request, options);
  }

  async #score(request: ScoreRequest, { signal, onItem }: CallOptions<"score">): Promise<null> {
    this.scored.push(request);
    for (const [index, { candidates }] of request.items.entries()) {
      await this.options.beforeItem?.(index);
      // A turn of the event loop, as a batch on a device gives one.
      await new Promise((resolve) => setTimeout(resolve, 0));
      if (signal?.aborted) {
        this.abandoned++;
        return null;
      }
      const lengths = candidates.map((text) =>
        typeof text === "string" || typeof text[0] === "number"
          ? text.length
          : (text[0] as Message | undefined)?.content?.length ?? 0
      );
      const ranked = lengths.map((_, i) => i).filter((i) => lengths[i]! > 0)
        .sort((a, b) => lengths[a]! - lengths[b]!);
      const nothing = { rank: null, average_logprob: null, sum_logprob: null, reward: null };
      const { max_length, chat_template_kwargs: _, ...encoding } = {
        ...DEFAULT_ENCODING,
        ...request.encoding,
      };
      onItem?.({
        results: lengths.map((length, i) => ({
          index: i,
          num_tokens: length,
          truncated: false,
          candidate_truncated: false,
          ...length === 0 ? { ...nothing, reason: "The candidate is empty." } : {
            rank: ranked.indexOf(i) + 1,
            average_logprob: -length,
            sum_logprob: -length * length,
            reward: -length * request.beta,
          },
          ...(request.token_logprobs ? { tokens: ["a"], token_logprobs: [-1] } : {}),
        })),
        best: ranked[0] ?? null,
        margin: ranked.length < 2 ? null : lengths[ranked[1]!]! - lengths[ranked[0]!]!,
        prompt_truncated: 0,
        encoding: { ...encoding, max_length: max_length ?? 128 },
        usage: { prompt_tokens: 1, cached_prompt_tokens: 0, candidate_tokens: 2, total_tokens: 3 },
      });
    }
    return null;
  }

  /** A text has a token a character, whose id is its code; what stands before `b` is likeliest to be followed by `b`. */
  async #scoreSequences(request: SequenceRequest, { onItem }: CallOptions<"sequences">): Promise<null> {
    this.sequences.push(request);
    for (const [index, prompt] of request.prompts.entries()) {
      await this.options.beforeItem?.(index);
      const token_ids = typeof prompt === "string" ? [...prompt].map((c) => c.codePointAt(0)!) : [...prompt];
      const tokens = token_ids.map((id) => String.fromCodePoint(id));
      onItem?.({
        text: tokens.join(""),
        token_ids,
        tokens,
        token_logprobs: tokens.slice(1).map((token) => token === "b" ? -0.5 : -2),
        likeliest: tokens.map(() => ({ id: 98, token: "b", logprob: -0.5 })),
        cached_prompt_tokens: 0,
      });
    }
    return null;
  }

  async #train(
    request: TrainRequest,
    { signal, onItem, onLoading }: CallOptions<"train">,
  ): Promise<TrainOutcome> {
    const onEvent = (event: TrainEvent) => onItem?.(event);
    this.trained.push(request);
    const { id, directory } = request;
    const total_steps = this.options.steps ?? 3;
    const failure = this.failing.get(request.model.split("/").at(-1)!);
    if (failure !== undefined) throw failure;
    onEvent({
      type: "left_out",
      split: "train",
      ...summarizeLeftOut(this.options.leftOut ?? [{ row: 7, reason: "empty response" }]),
    });
    onEvent({ type: "plan", plan: fakePlan });
    const resumed_from = await newestCheckpoint(directory);
    for (const bytes of [0, 2]) onLoading?.({ bytes, total_bytes: 2 });
    onEvent({ type: "status", status: "running", total_steps, resumed_from });
    onEvent({ type: "warning", message: "this is a fake" });
    for (let step = 1; step <= total_steps; step++) {
      // Metrics of the steps before the checkpoint come again after a resume.
      if (step > resumed_from) {
        await this.options.beforeStep?.(id, step);
        // A turn of the event loop, as a step on a device gives one.
        await new Promise((resolve) => setTimeout(resolve, 0));
        const how = this.#stopped ? "stop" : signal?.aborted ? (signal.reason as Interrupted).how : null;
        if (how !== null) return { outcome: how === "stop" ? "stopped" : "cancelled", step: step - 1 };
      }
      onEvent({
        type: "metrics",
        step,
        metrics: { loss: 1 / step, "rewards/accuracies": 1, epoch: step / total_steps },
      });
      if (step > resumed_from) {
        const folder = join(directory, "checkpoints", `step-${String(step).padStart(6, "0")}`);
        await Deno.mkdir(folder, { recursive: true });
        await Deno.writeTextFile(join(folder, "adapter_config.json"), `{"step":${step}}`);
        await Deno.writeTextFile(join(folder, "optimizer.safetensors"), "moments");
        await Deno.writeTextFile(join(folder, "trainer_state.json"), "{}");
      }
      onEvent({ type: "checkpoint", step });
      onEvent({
        type: "progress",
        step,
        total_steps,
        tokens_per_second: 10,
        seconds_remaining: total_steps - step,
      });
    }
    onEvent({ type: "metrics", step: total_steps, metrics: { eval_loss: 0.5 } });
    await Deno.mkdir(join(directory, "result"), { recursive: true });
    await Deno.writeTextFile(join(directory, "result", "adapter_config.json"), "{}");
    await Deno.writeTextFile(join(directory, "result", "adapter_model.safetensors"), "weights");
    return { outcome: "succeeded", step: total_steps };
  }

  stop(): Promise<void> {
    this.#stopped = true;
    return Promise.resolve();
  }
}

const device: DeviceReport = {
  kind: "software",
  vendor: "fake",
  architecture: "fake",
  description: "no device",
  limits: { maxBufferSize: 1 },
  features: ["f16"],
  subgroups: false,
  f16: true,
  matmul: "none",
};

const none = { gradients: 0, moments: 0, activations: 0, head: 0, scratch: 0, other: 0 };
/** What every job needs. */
export const fakePlan: MemoryPlan = {
  micro_batch_tokens: 2048,
  activation_recomputation: false,
  bytes: { weights: 3 * 2 ** 20, parameters: 2 ** 20, ...none },
  total_bytes: 2 ** 22,
  available_bytes: null,
};

/** A refusal as the engine makes one. */
export function refusal(...path: PathPart[]): InputError {
  return new InputError((field) => `${field} cannot be used.`, {
    path,
    value: "x",
    accepted: "something else",
  });
}

async function newestCheckpoint(directory: string): Promise<number> {
  try {
    const names = await Array.fromAsync(Deno.readDir(join(directory, "checkpoints")), ({ name }) => name);
    return Math.max(0, ...names.map((name) => Number(name.split("-")[1])));
  } catch {
    return 0;
  }
}

/** One row that is left out. */
export function leftOut(row: number, reason: string): LeftOut {
  return { count: 1, faults: 1, reasons: [{ reason, count: 1 }], first: [{ row, reason }] };
}
