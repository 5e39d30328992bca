import { InputError } from "../../errors.ts";
import { isObject, show } from "../../json.ts";
import { type Json, unlike } from "./_fields.ts";

/** Far above the largest vocabularies in use: a few hundred thousand. */
export const HIGHEST_ID = 2 ** 24 - 1;

/** The field `vocab`: ids by text. */
export function readVocabulary(json: Json): Map<string, number> {
  const { vocab } = json;
  if (!isObject(vocab)) throw unlike(json, "vocab", "ids by token");
  const vocabulary = new Map<string, number>();
  for (const token in vocab) vocabulary.set(token, idOf(vocab[token]));
  return vocabulary;
}

/** A token's id. @throws {InputError} where it is none */
export function idOf(id: unknown): number {
  if (Number.isInteger(id) && Number(id) >= 0 && Number(id) <= HIGHEST_ID) return id as number;
  throw new InputError(
    (place) =>
      `${place} cannot be used: a token has the id ${show(id)}, not a whole number from 0 to ${HIGHEST_ID}.`,
    { value: id, accepted: `a whole number from 0 to ${HIGHEST_ID}` },
  );
}

const encoder = new TextEncoder();

/** What gives the tokens of a text's bytes (`<0x0A>`), or null where one is not in the vocabulary. */
export function byteTokens(
  vocabulary: ReadonlyMap<string, number>,
): (text: string) => readonly number[] | null {
  const ids = Array.from(
    { length: 256 },
    (_, byte) => vocabulary.get(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`),
  );
  return (text) => {
    const tokens: number[] = [];
    for (const byte of encoder.encode(text)) {
      const id = ids[byte];
      if (id === undefined) return null;
      tokens.push(id);
    }
    return tokens;
  };
}

/** What a text is refused with that has no token, where the model has none for what is unknown. */
export function unknownText(text: string): InputError {
  return new InputError(
    `The tokenizer has no token for ${show(text)}, and its model names no token for what is unknown.`,
    { value: text, accepted: "text that the tokenizer has tokens for" },
  );
}
