/**
 * How a piece becomes token ids, as tokenizer.json's `model` says.
 *
 * @module
 */
import { isObject } from "../../json.ts";
import { readBpe } from "./bpe.ts";
import { type Json, readTyped } from "./_fields.ts";
import { readUnigram } from "./unigram.ts";
import { readWordLevel, readWordPiece } from "./words.ts";

/** A model of tokens. */
export interface Model {
  /** Ids by text. */
  readonly vocabulary: ReadonlyMap<string, number>;
  /** Token ids of a piece. @throws {InputError} where it has no token for it and none for what is unknown */
  encode(piece: string): readonly number[];
  /** Splits a piece where no token crosses, so that its parts can be encoded one by one; does nothing for most models. */
  readonly divide?: ((piece: string) => readonly string[]) | undefined;
}

/** Reads a `model`. @throws {InputError} naming the field at fault */
export function readModel(json: unknown): Model {
  return readTyped("model", isObject(json) ? { type: typeOf(json), ...json } : json, {
    BPE: readBpe,
    Unigram: readUnigram,
    WordPiece: readWordPiece,
    WordLevel: readWordLevel,
  });
}

/** The type of a model in an old file, which names none. */
function typeOf(json: Json): string {
  if ("merges" in json) return "BPE";
  if ("max_input_chars_per_word" in json) return "WordPiece";
  return Array.isArray(json["vocab"]) ? "Unigram" : "WordLevel";
}
