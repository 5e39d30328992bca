import type { Comparison } from "./rows.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** How text becomes tokens, and what is cut. */
export interface EncodeSettings {
  /** Tokens of a prompt and one response together. */
  readonly max_length: number;
  /** Tokens a prompt is cut to where prompt and longest response exceed `max_length`. */
  readonly max_prompt_length: number;
  /** Which end of a prompt stays. */
  readonly truncation_mode: "keep_end" | "keep_start";
  /** Where a templated prompt ends: after the generation prompt (TRL), or before it (the SimPO authors' code). */
  readonly prompt_boundary: "trl" | "simpo";
}

/** One response's tokens after the group's shared prompt. */
export interface EncodedResponse {
  /** Tokens after the group's shared prefix. */
  readonly tokens: Uint32Array;
  /** Index in `tokens` of the first scored token. */
  readonly scored_from: number;
  /** Whether tokens of the response itself were cut. */
  readonly truncated: boolean;
}

/** A comparison as tokens: the prompt once, then what differs. */
export interface EncodedGroup {
  readonly row: number;
  /** Shared prefix of all responses; may be empty. */
  readonly prompt: Uint32Array;
  readonly responses: readonly EncodedResponse[];
  /** Prompt tokens that were cut. */
  readonly prompt_truncated: number;
}

/** A group, or why the row has none. */
export type Encoded =
  | { readonly group: EncodedGroup; readonly left_out?: never }
  | { readonly left_out: { readonly row: number; readonly reason: string }; readonly group?: never };

/** Tokenises a comparison. @throws InputError where the text cannot be templated */
export function encodeComparison(
  _tokenizer: Tokenizer,
  _comparison: Comparison,
  _settings: EncodeSettings,
): Encoded {
  throw new Error("not yet");
}
