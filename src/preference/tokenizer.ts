import type { Message } from "./rows.ts";

/** A model's tokenizer and chat template. */
export interface Tokenizer {
  /** Token ids of a text; special tokens written out in the text are recognised, none are added. */
  encode(text: string): number[];
  /** Text of token ids, special tokens included. */
  decode(ids: ArrayLike<number>): string;
  /** Text of one token, `""` for an id that has none. */
  token(id: number): string;
  readonly bos: number | null;
  /** Every id that ends a generation: the tokenizer's `eos_token`, then `generation_config.json`'s. */
  readonly eos: readonly number[];
  /** The `eos_token`'s id: the one that is added. */
  readonly eosId: number | null;
  /** Whether a text starts with BOS: what the tokenizer's own post-processing does. */
  readonly addBos: boolean;
  /** Highest token id + 1. */
  readonly vocabSize: number;
  readonly chatTemplate: string | null;
  /** @throws InputError where there is no template, or it refuses the messages */
  renderChat(messages: readonly Message[], options: { readonly addGenerationPrompt: boolean }): string;
}

/** Reads a model directory's tokenizer files. @throws InputError naming the file at fault */
export async function loadTokenizer(dir: string): Promise<Tokenizer> {
  await Deno.stat(dir);
  throw new Error("not yet");
}
