import { InputError, mustBe } from "../../errors.ts";
import { flag, type Json, text, unlike } from "./_fields.ts";
import { MinHeap } from "./_min_heap.ts";
import { PairMap } from "./_pair_map.ts";
import { byteTokens, readVocabulary, unknownText } from "./_vocabulary.ts";
import type { Model } from "./models.ts";

/** Sentencepiece's space. */
const SPACE = "\u2581";

/**
 * Byte pair encoding: a piece is spelled in the characters of the vocabulary, then the pair of neighbours with the lowest
 * rank is merged, the leftmost first, until none has one.
 */
export function readBpe(json: Json): Model {
  const optional = (field: string) => json[field] == null ? null : text(json, field);
  const dropout = json["dropout"] ?? 0;
  if (dropout !== 0) throw unlike(json, "dropout", "null or 0: tokens by chance are not made here");
  const vocabulary = readVocabulary(json);
  const unknown = optional("unk_token");
  const prefix = optional("continuing_subword_prefix") ?? "";
  const suffix = optional("end_of_word_suffix") ?? "";
  const fuseUnknown = flag(json, "fuse_unk", false);
  const bytes = flag(json, "byte_fallback", false) ? byteTokens(vocabulary) : null;
  const ignoreMerges = flag(json, "ignore_merges", false);
  const merges = readMerges(json);

  // Ranks by pair, and what a merge makes by rank.
  const ranks = new PairMap(merges.length);
  const merged = new Int32Array(merges.length);
  for (const [rank, [left, right]] of merges.entries()) {
    const ids = [left, right, left + right.slice(prefix.length)].map((piece) => vocabulary.get(piece));
    if (ids.includes(undefined)) {
      throw new InputError((place) => `${place} makes a token that the vocabulary lacks.`, {
        path: ["merges", rank],
        value: [left, right],
        accepted: "a pair of tokens whose text together is a token",
      });
    }
    ranks.set(ids[0]!, ids[1]!, rank);
    merged[rank] = ids[2]!;
  }

  /** A piece in ids of single characters. */
  const spell = (piece: string): number[] => {
    const ids: number[] = [];
    let pending = -1; // an unknown token that may grow
    let at = 0;
    for (const character of piece) {
      let spelled = at > 0 ? prefix + character : character;
      at += character.length;
      if (at === piece.length) spelled += suffix;
      const id = vocabulary.get(spelled);
      if (id !== undefined) {
        if (pending >= 0) ids.push(pending);
        pending = -1;
        ids.push(id);
        continue;
      }
      const fallback = bytes?.(spelled);
      if (fallback) {
        ids.push(...fallback);
        continue;
      }
      // Without an unknown token the Rust library leaves the character out, as here.
      if (unknown === null) continue;
      if (pending >= 0 && fuseUnknown) continue;
      if (pending >= 0) ids.push(pending);
      const unknownId = vocabulary.get(unknown);
      if (unknownId === undefined) throw unknownText(character);
      pending = unknownId;
    }
    if (pending >= 0) ids.push(pending);
    return ids;
  };

  /** Merges neighbours. The queue holds rank and place in one number, so that the lowest rank comes first, then the leftmost. */
  const merge = (ids: number[]): number[] => {
    const size = ids.length;
    if (size < 2) return ids;
    const queue = new MinHeap();
    const next = Int32Array.from({ length: size }, (_, i) => i + 1);
    const previous = Int32Array.from({ length: size }, (_, i) => i - 1);
    const offer = (at: number) => {
      const rank = next[at]! < size ? ranks.get(ids[at]!, ids[next[at]!]!) : -1;
      if (rank >= 0) queue.push(rank * size + at);
    };
    for (let at = 0; at < size - 1; at++) offer(at);
    for (let top = queue.pop(); top >= 0; top = queue.pop()) {
      const at = top % size;
      const rank = (top - at) / size;
      const right = next[at]!;
      // Since it was offered the pair may have gone.
      if (ids[at] === -1 || right >= size || ranks.get(ids[at]!, ids[right]!) !== rank) continue;
      ids[at] = merged[rank]!;
      ids[right] = -1;
      next[at] = next[right]!;
      if (next[at]! < size) previous[next[at]!] = at;
      if (previous[at]! >= 0) offer(previous[at]!);
      offer(at);
    }
    return ids.filter((id) => id !== -1);
  };

  return {
    vocabulary,
    encode: (piece) => {
      const whole = ignoreMerges ? vocabulary.get(piece) : undefined;
      return whole === undefined ? merge(spell(piece)) : [whole];
    },
    divide: ignoreMerges || prefix || suffix || !vocabulary.has(SPACE) ? undefined : beforeSpaces(merges),
  };
}

/** Sentencepiece's BPE takes a text as one piece; no merge crosses these places in it, which are before most spaces. */
function beforeSpaces(merges: readonly (readonly [string, string])[]): (piece: string) => readonly string[] {
  const joined = new Set([SPACE]); // what a merge may put before a space
  for (const [left, right] of merges) if (right.startsWith(SPACE)) joined.add(left.at(-1)!);
  return (piece) => {
    const parts: string[] = [];
    let start = 0;
    for (let at = piece.indexOf(SPACE, 1); at > 0; at = piece.indexOf(SPACE, at + 1)) {
      if (joined.has(piece[at - 1]!)) continue;
      parts.push(piece.slice(start, at));
      start = at;
    }
    parts.push(piece.slice(start));
    return parts;
  };
}

/** Pairs by rank: lists, or as older files have them texts with a space in between. */
function readMerges(json: Json): readonly (readonly [string, string])[] {
  const { merges } = json;
  if (!Array.isArray(merges)) throw unlike(json, "merges", "a list of pairs");
  const lines = typeof merges[0] === "string"
    ? merges.filter((line) => typeof line !== "string" || !line.startsWith("#version"))
    : merges;
  return lines.map((entry: unknown, index) => {
    const pair = typeof entry === "string" ? entry.split(" ") : entry;
    if (Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string")) {
      return pair as [string, string];
    }
    throw mustBe("a pair of tokens", ["merges", index], entry, '["a", "b"] or "a b"');
  });
}
