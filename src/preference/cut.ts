/** Sequences as a group that is no longer than it may be. */
import { commonPrefix } from "./_common_prefix.ts";
import type { EncodedGroup, EncodedResponse, Sequence } from "./encode.ts";
import type { Tokenizer } from "./tokenizer.ts";

/** What is cut. */
export interface CutSettings {
  /** Tokens of a prompt and one response together. */
  readonly max_length: number;
  /** Tokens a prompt is cut to where prompt and longest response exceed `max_length`. */
  readonly max_prompt_length: number;
  /** Which end of a prompt stays. */
  readonly truncation_mode: "keep_end" | "keep_start";
}

/** Sequences as a group; or without one the responses that have no token to score, and why. */
export type Grouped =
  | { readonly group: EncodedGroup; readonly faults?: never }
  | { readonly faults: ReadonlyMap<number, string>; readonly group?: never };

/** Cuts sequences to what the settings allow and puts them together as a group. */
export function groupSequences(
  tokenizer: Tokenizer,
  row: number,
  whole: readonly Sequence[],
  settings: CutSettings,
): Grouped {
  const { max_length } = settings;
  const { sequences, cut } = cutPrompts(tokenizer, whole, settings);
  const shared = Math.min(
    ...sequences.map(({ ids, boundary }) => Math.min(boundary, commonPrefix(ids, sequences[0]!.ids))),
  );
  // Nothing predicts the very first token of a sequence.
  const firstScored = Math.max(shared, 1);
  const faults = new Map<number, string>();
  const responses = sequences.map(({ ids, boundary }, response): EncodedResponse => {
    const scored = Math.max(boundary, firstScored);
    if (scored >= Math.min(ids.length, max_length)) {
      const fault = ids.length > max_length
        ? `has no token left: its prompt takes ${boundary} of max_length ${max_length}`
        : "has one token and nothing before it that could predict it";
      faults.set(response, fault);
    }
    return {
      tokens: new Uint32Array(ids.slice(shared, max_length)),
      scored_from: scored - shared,
      truncated: ids.length > max_length,
    };
  });
  if (faults.size > 0) return { faults };
  const prompt = new Uint32Array(sequences[0]!.ids.slice(0, shared));
  return { group: { row, prompt, responses, prompt_truncated: cut } };
}

/** Cuts the same tokens from every sequence's prompt, so that what they share stays shared. */
function cutPrompts(
  tokenizer: Tokenizer,
  sequences: readonly Sequence[],
  settings: CutSettings,
): { sequences: readonly Sequence[]; cut: number } {
  const longestPrompt = Math.max(...sequences.map(({ boundary }) => boundary));
  const longest = Math.max(...sequences.map(({ ids }) => ids.length));
  const kept = Math.max(settings.max_prompt_length, 0);
  if (longest <= settings.max_length || longestPrompt <= kept) return { sequences, cut: 0 };

  const cutOne = ({ ids, boundary }: Sequence): Sequence => {
    const bos = boundary > 0 && ids[0] === tokenizer.bos ? 1 : 0;
    const prompt = settings.truncation_mode === "keep_start"
      ? ids.slice(0, Math.min(boundary, Math.max(kept, bos)))
      : [
        ...ids.slice(0, bos),
        ...ids.slice(Math.min(bos + longestPrompt - kept, boundary), boundary),
      ];
    return { ids: [...prompt, ...ids.slice(boundary)], boundary: prompt.length };
  };
  const after = sequences.map(cutOne);
  return { sequences: after, cut: longestPrompt - Math.max(...after.map(({ boundary }) => boundary)) };
}
