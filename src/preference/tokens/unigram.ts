import { mustBe } from "../../errors.ts";
import { flag, type Json, unlike } from "./_fields.ts";
import { Trie } from "./_trie.ts";
import { byteTokens, unknownText } from "./_vocabulary.ts";
import type { Model } from "./models.ts";

/** What an unknown character scores below the worst token. */
const UNKNOWN_PENALTY = 10;

/**
 * Sentencepiece's unigram model: of all ways to put a piece together from tokens the one whose scores sum to the most, the
 * earlier found of equals. Unknown characters side by side are one token, or their bytes.
 */
export function readUnigram(json: Json): Model {
  const { vocab } = json;
  if (!Array.isArray(vocab)) throw unlike(json, "vocab", "a list of tokens with scores");
  const unknown = json["unk_id"] ?? null;
  if (
    unknown !== null && !(Number.isInteger(unknown) && Number(unknown) >= 0 && Number(unknown) < vocab.length)
  ) {
    throw unlike(json, "unk_id", `null or a whole number below ${vocab.length}`);
  }
  const vocabulary = new Map<string, number>();
  const scores = new Float64Array(vocab.length);
  const trie = new Trie(4 * vocab.length);
  for (const [id, entry] of (vocab as unknown[]).entries()) {
    if (!Array.isArray(entry) || typeof entry[0] !== "string" || typeof entry[1] !== "number") {
      throw mustBe("a token and its score", ["vocab", id], entry, '["token", -1.5]');
    }
    vocabulary.set(entry[0], id);
    scores[id] = entry[1];
    if (entry[0] !== "") trie.set(entry[0], id);
  }
  const unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
  const bytes = flag(json, "byte_fallback", false) ? byteTokens(vocabulary) : null;

  return {
    vocabulary,
    encode: (piece) => {
      const size = piece.length;
      // The best way to each place: its score, where its last token starts (-1: none yet) and that token.
      const best = new Float64Array(size + 1);
      const starts = new Int32Array(size + 1).fill(-1);
      const tokens = new Int32Array(size + 1);
      const offer = (start: number, end: number, score: number, id: number) => {
        if (starts[end] !== -1 && !(score > best[end]!)) return;
        best[end] = score;
        starts[end] = start;
        tokens[end] = id;
      };
      for (let start = 0; start < size;) {
        const after = start + (piece.codePointAt(start)! > 0xffff ? 2 : 1);
        let single = false;
        trie.find(piece, start, (end, id) => {
          offer(start, end, best[start]! + scores[id]!, id);
          single ||= end === after;
        });
        if (!single) {
          if (unknown === null) throw unknownText(piece.slice(start, after));
          offer(start, after, best[start]! + unknownScore, unknown as number);
        }
        start = after;
      }
      const found: { text: string; unknown: boolean }[] = []; // from the end
      for (let end = size; end > 0; end = starts[end]!) {
        const text = piece.slice(starts[end], end);
        const last = found.at(-1);
        if (tokens[end] === unknown && last?.unknown) last.text = text + last.text;
        else found.push({ text, unknown: tokens[end] === unknown });
      }
      const ids: number[] = [];
      for (const { text } of found.reverse()) {
        const id = vocabulary.get(text);
        const fallback = id === undefined ? bytes?.(text) : null;
        if (fallback) ids.push(...fallback);
        else ids.push(id ?? unknown as number);
      }
      return ids;
    },
  };
}
