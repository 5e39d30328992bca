/** What may be asked of a thread that reads what others wrote: a row a call. Plain data only: it crosses between threads. */
import type { Inspection } from "../api/inspection.ts";
import type { LoraSettings } from "../api/settings.ts";
import type { LoraRequest } from "../jobs/adapter_form.ts";
import type { EncodedScore, EncodedSequences } from "../scoring/encode_request.ts";
import type { ScoreRequest, ScoringWeights, SequenceRequest } from "../scoring/request.ts";
import type { InspectRequest } from "../training/inspect.ts";
import type { TrainEvent, TrainRequest } from "../training/request.ts";

/** What a call is asked, what it tells on its way, and its answer. */
interface Call<Request, Result, Item = never> {
  readonly request: Request;
  readonly item: Item;
  readonly result: Result;
}

/** The calls. Each has its handler in `handlers.ts`. */
export interface TextCalls {
  /** Items as tokens. */
  score: Call<ScoreRequest, EncodedScore>;
  /** Sequences as tokens. */
  sequences: Call<SequenceRequest, EncodedSequences>;
  /** How the vocabulary spells token ids, in their order. */
  names: Call<ScoringWeights & { readonly ids: readonly number[] }, readonly string[]>;
  /** Checks that a chat template is one. */
  template: Call<{ readonly chat_template: string }, null>;
  /** Checks a model's configuration and its weights' headers, and that the modules to be trained are there. */
  model: Call<{ readonly model: string; readonly lora: LoraSettings | null }, null>;
  /** Fills in the form of an adapter that a job goes on from. */
  adapter_form: Call<
    { readonly adapter: string; readonly model: string; readonly lora: LoraRequest },
    LoraRequest
  >;
  /** The chat templates of a folder, by their names; null: it has none. */
  templates: Call<{ readonly model: string }, ReadonlyMap<string, string> | null>;
  /** Tokenises a job's rows and tells what they become. */
  inspect: Call<InspectRequest, Inspection>;
  /** Writes a job's rows as tokens into its folder. */
  rows: Call<TrainRequest, null, TrainEvent>;
}

/** A row of {@link TextCalls}. */
export type TextCallName = keyof TextCalls;
