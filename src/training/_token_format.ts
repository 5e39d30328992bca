/** How groups of tokens lie in a job's files. */
import type { EncodedGroup, EncodedResponse } from "../preference/encode.ts";
import { TOKEN_MANIFEST } from "./token_files.ts";

/** What a folder of tokens has beside the groups. */
export interface TokenManifest {
  /** What the tokens depend on; other tokens belong to something else. */
  readonly key: string;
  /** Tokens of the largest group. */
  readonly largest: number;
  /** Responses of every group. */
  readonly responses: number;
  /** Of each file: what a damaged disk or a copy in parts has changed is not trained on. */
  readonly checksums: Readonly<Record<string, number>>;
}

/** Changes when what is written does. */
export const VERSION = 2;
/** Bytes that are gathered before they are written. */
export const CHUNK = 1 << 20;
/** Words before a group's responses, and of each response before its tokens. */
export const [GROUP_WORDS, RESPONSE_WORDS] = [4, 3];
const [TRUNCATED, PREDICTS_NEXT] = [1, 2];
/** Names in a folder of tokens. */
export const FILES = {
  tokens: "tokens.bin",
  offsets: "offsets.bin",
  train: "train.bin",
  eval: "eval.bin",
  manifest: TOKEN_MANIFEST,
};

/** A group as the file has it. */
export function wordsOf({ row, prompt, responses, prompt_truncated }: EncodedGroup): Uint32Array {
  const length = responses.reduce((sum, { tokens }) => sum + RESPONSE_WORDS + tokens.length, 0);
  const words = new Uint32Array(GROUP_WORDS + length + prompt.length);
  words.set([row, prompt_truncated, prompt.length, responses.length]);
  let at = GROUP_WORDS;
  for (const { tokens, scored_from, truncated, predicts_next } of responses) {
    words.set(
      [tokens.length, scored_from, (truncated ? TRUNCATED : 0) | (predicts_next ? PREDICTS_NEXT : 0)],
      at,
    );
    at += RESPONSE_WORDS;
  }
  for (const tokens of [prompt, ...responses.map(({ tokens }) => tokens)]) {
    words.set(tokens, at);
    at += tokens.length;
  }
  return words;
}

/** The group of some words. @param numbers of its responses one after another */
export function groupOf(words: Uint32Array, numbers?: Float32Array): EncodedGroup {
  const [row, prompt_truncated, promptLength, count] = words as unknown as [number, number, number, number];
  let at = GROUP_WORDS + count * RESPONSE_WORDS;
  const width = (numbers?.length ?? 0) / count;
  const take = (length: number) => words.subarray(at, at += length);
  const prompt = take(promptLength);
  const responses = Array.from({ length: count }, (_, index): EncodedResponse => {
    const head = GROUP_WORDS + index * RESPONSE_WORDS;
    const flags = words[head + 2]!;
    return {
      tokens: take(words[head]!),
      scored_from: words[head + 1]!,
      truncated: (flags & TRUNCATED) !== 0,
      ...((flags & PREDICTS_NEXT) === 0 ? {} : { predicts_next: true }),
      ...(numbers && { numbers: numbers.subarray(index * width, (index + 1) * width) }),
    };
  });
  return { row, prompt, responses, prompt_truncated };
}
