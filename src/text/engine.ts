import type { CallName, CallOptions, Calls, Engine } from "../engine/protocol.ts";
import { stopped } from "../engine/stopped.ts";
import type { ScoredSequence, ScoredTokens, ScoringWeights } from "../scoring/request.ts";
import type { EncodedSequences } from "../scoring/encode_request.ts";
import type { TrainEvent } from "../training/request.ts";
import { TokenSignal } from "../training/token_signal.ts";
import { type TextThread, textThread, withThread } from "./thread.ts";

type LoadingOptions = Pick<CallOptions<CallName>, "onLoading">;

/** Calls about texts: those about tokens are the device's. */
type Facade = {
  readonly [Name in CallName]?: (
    request: Calls[Name]["request"],
    options: CallOptions<Name>,
    signal: AbortSignal,
  ) => Promise<Calls[Name]["result"]>;
};

/** An engine whose device is given tokens alone: texts are read in a thread of their own. */
export class TextEngine implements Engine {
  readonly #device: Engine;
  readonly #text: TextThread;
  readonly #stopping = new AbortController();
  /** Weights that were asked for once, by their folders. */
  readonly #loaded = new Set<string>();

  /** @param device answers all calls that are about tokens */
  constructor(device: Engine, text: TextThread = textThread()) {
    this.#device = device;
    this.#text = text;
  }

  get trainingSlots(): number {
    return this.#device.trainingSlots;
  }

  get trouble(): string | null {
    return this.#device.trouble ?? null;
  }

  async call<Name extends CallName>(
    name: Name,
    request: Calls[Name]["request"],
    options: CallOptions<Name> = {},
  ): Promise<Calls[Name]["result"]> {
    const own = this.#calls[name];
    if (own === undefined) return await this.#device.call(name, request, options);
    const { signal } = options;
    const ending = this.#stopping.signal;
    return await own(request, options, signal ? AbortSignal.any([signal, ending]) : ending);
  }

  async stop(): Promise<void> {
    this.#stopping.abort(stopped());
    await this.#device.stop();
  }

  /**
   * The first call for some weights has them read while its texts become tokens; what goes wrong is told to the call.
   *
   * @returns what is still to be told of loading: nothing where this does
   */
  #load(weights: ScoringWeights, { onLoading }: LoadingOptions, signal: AbortSignal): LoadingOptions {
    const key = JSON.stringify(weights);
    if (this.#loaded.has(key)) return { onLoading };
    if (this.#loaded.size >= MOST_LOADED) this.#loaded.clear();
    this.#loaded.add(key);
    this.#device.call("load", weights, { signal, onLoading }).catch(() => this.#loaded.delete(key));
    return {};
  }

  readonly #calls: Facade = {
    score: async (request, { signal: given, onItem, ...options }, signal) => {
      const { model, adapter, quantization } = request;
      const loading = this.#load({ model, adapter, quantization }, options, signal);
      const encoded = await this.#text.call("score", request, signal);
      const tokens = { model, adapter, quantization, ...encoded };
      return await this.#device.call("score_tokens", tokens, { signal: given, onItem, ...loading });
    },
    sequences: async (request, { signal: given, onItem, ...told }, signal) => {
      const { model, adapter, quantization } = request;
      const weights = { model, adapter, quantization };
      const loading = this.#load(weights, told, signal);
      const { groups, ...spelt } = await this.#text.call("sequences", request, signal);
      let next = 0;
      let named = Promise.resolve();
      const onTokens = (item: ScoredTokens) => {
        const index = next++;
        const ids = [...new Set(item.likeliest.map(({ id }) => id))];
        const names = this.#text.call("names", { ...weights, ids }, signal);
        names.catch(() => {}); // heard of when its turn comes
        named = named.then(async () => {
          const texts = await names;
          await onItem?.(spell(item, spelt, index, new Map(ids.map((id, i) => [id, texts[i]!]))));
        });
        named.catch(() => {});
        return named;
      };
      const options = { signal: given, onItem: onTokens, ...loading };
      const result = await this.#device.call("sequence_tokens", { ...weights, groups }, options);
      await named;
      return result;
    },
    inspect: async (request, _, signal) =>
      await withThread((thread) => thread.call("inspect", request, signal)),
    train: async (request, options) =>
      await withThread(async (thread) => {
        const tokens = new TokenSignal();
        const asked = { ...request, tokens: tokens.buffer };
        let fault: { readonly error: unknown } | null = null;
        const readRows = () =>
          thread.call("rows", asked, undefined, options.onItem).then(
            () => tokens.state = "ready",
            (error) => {
              fault = { error };
              tokens.state = "failed";
            },
          );
        thread.start();
        const onItem = (event: TrainEvent) =>
          event.type === "settled" ? void readRows() : options.onItem?.(event);
        const outcome = await this.#device.call("train", asked, { ...options, onItem });
        const told = fault as { readonly error: unknown } | null;
        if (told !== null) throw told.error;
        return outcome;
      }),
  };
}

/** Weights that are remembered to have been asked for. */
const MOST_LOADED = 100;
function spell(
  { likeliest, ...item }: ScoredTokens,
  { texts, tokens }: Omit<EncodedSequences, "groups">,
  index: number,
  names: ReadonlyMap<number, string>,
): ScoredSequence {
  return {
    ...item,
    text: texts[index]!,
    tokens: tokens[index]!,
    likeliest: likeliest.map(({ id, logprob }) => ({ id, token: names.get(id)!, logprob })),
  };
}
