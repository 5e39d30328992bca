/** What scoring is asked, and what it answers. Plain data only: it crosses into the Worker and back. */
export type { ScoredCandidate, ScoredItem } from "../api/score.ts";
import type { UsedEncoding } from "../api/score.ts";
import type { Quantization } from "../model/quantization.ts";
import type { Comparison, Text } from "../preference/rows.ts";

/** The weights to score with. */
export interface ScoringWeights {
  /** Absolute directory of the model. */
  readonly model: string;
  /** Absolute directory of PEFT adapter files or of full weights; null: the model as it is. */
  readonly adapter: string | null;
  /** How the model's linear layers are held; null: as their file has them. */
  readonly quantization: Quantization | null;
}

/** Whole sequences, each of whose tokens is scored against those before it. */
export interface SequenceRequest extends ScoringWeights {
  /** Texts or token ids; none is empty. */
  readonly prompts: readonly (string | readonly number[])[];
  /** Whether a text starts with BOS where the tokenizer adds it; token ids are taken as they are. */
  readonly add_special_tokens: boolean;
  /** Tokens that must fit the model's context after each prompt. */
  readonly max_tokens: 0 | 1;
  /** Whether the prompts' own tokens are scored, or only what follows the last of each is asked for. */
  readonly prompt_logprobs: boolean;
}

/** A token that the model finds likeliest somewhere. */
export interface LikeliestToken {
  readonly id: number;
  /** As the vocabulary spells it. */
  readonly token: string;
  readonly logprob: number;
}

/** A sequence with the log-probs of its tokens. */
export interface ScoredSequence extends Omit<ScoredTokens, "likeliest"> {
  /** The text as it was given, or that of the token ids. */
  readonly text: string;
  /** Beside `token_ids`, as the vocabulary spells them. */
  readonly tokens: readonly string[];
  /** As {@link ScoredTokens} has it. */
  readonly likeliest: readonly LikeliestToken[];
}

/** What the device finds of a sequence. */
export interface ScoredTokens {
  readonly token_ids: readonly number[];
  /** Of every token but the first: nothing predicts that. None where they were not asked for. */
  readonly token_logprobs: readonly number[];
  /** What the model finds likeliest at the place of every token that is scored, and after the last. */
  readonly likeliest: readonly Omit<LikeliestToken, "token">[];
  /** Tokens whose keys and values were known from an earlier prompt that began alike. */
  readonly cached_prompt_tokens: number;
}

/** A prompt or a candidate: text, turns, or token ids, which are taken as they are. */
export type ScoreText = Text | readonly number[];

/** How items become tokens, as an answer says it; what is left out is {@link DEFAULT_ENCODING}'s. */
export interface ScoreEncoding extends Omit<UsedEncoding, "max_length"> {
  /** Tokens of a prompt and one candidate together; null: the model's context. */
  readonly max_length: number | null;
}

/** As much of a prompt as the context takes, ended as TRL does. */
export const DEFAULT_ENCODING: ScoreEncoding = {
  prompt_boundary: "trl",
  max_length: null,
  max_prompt_length: null,
  truncation_mode: "keep_end",
  add_eos_token: true,
  chat_template_kwargs: null,
  split_special_tokens: null,
};

/** A prompt with candidates to compare. */
export interface ScoreRequestItem extends Pick<Comparison, "tools" | "chat_template_kwargs"> {
  readonly prompt: ScoreText;
  readonly candidates: readonly ScoreText[];
}

/** Prompts, each with candidates to compare. */
export interface ScoreRequest extends ScoringWeights {
  readonly items: readonly ScoreRequestItem[];
  /** Jinja source that goes before the adapter's and the model's own. */
  readonly chat_template?: string | null;
  readonly encoding?: Partial<ScoreEncoding>;
  /** Reward = beta times the average log-prob. */
  readonly beta: number;
  /** Whether results carry `tokens` and `token_logprobs`. */
  readonly token_logprobs: boolean;
}
