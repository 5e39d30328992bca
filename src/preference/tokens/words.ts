/**
 * Models that look words up.
 *
 * @module
 */
import { count, type Json, text } from "./_fields.ts";
import { readVocabulary, unknownText } from "./_vocabulary.ts";
import type { Model } from "./models.ts";

/** A piece is a token, or unknown. */
export function readWordLevel(json: Json): Model {
  const vocabulary = readVocabulary(json);
  const unknown = vocabulary.get(text(json, "unk_token"));
  return { vocabulary, encode: (piece) => [vocabulary.get(piece) ?? known(unknown, piece)] };
}

/** BERT's: the longest token that a piece begins with, then the longest of what is left, with the prefix; else unknown. */
export function readWordPiece(json: Json): Model {
  const vocabulary = readVocabulary(json);
  const unknown = vocabulary.get(text(json, "unk_token"));
  const prefix = text(json, "continuing_subword_prefix");
  const longest = count(json, "max_input_chars_per_word", 0);
  return {
    vocabulary,
    encode: (piece) => {
      const characters = Array.from(piece);
      if (characters.length > longest) return [known(unknown, piece)];
      const ids: number[] = [];
      for (let start = 0; start < characters.length;) {
        let end = characters.length;
        let id: number | undefined;
        for (; end > start; end--) {
          id = vocabulary.get((start > 0 ? prefix : "") + characters.slice(start, end).join(""));
          if (id !== undefined) break;
        }
        if (id === undefined) return [known(unknown, piece)];
        ids.push(id);
        start = end;
      }
      return ids;
    },
  };
}

function known(unknown: number | undefined, piece: string): number {
  if (unknown === undefined) throw unknownText(piece);
  return unknown;
}
