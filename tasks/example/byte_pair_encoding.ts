/** A byte-level BPE tokenizer, trained on given text and written as Hugging Face's tokenizer.json. */

/** Splits text into words before merging: a word, a single digit or a run of signs, each with the space before it. */
const WORD = " ?\\p{L}+| ?\\p{N}| ?[^\\s\\p{L}\\p{N}]+|\\s+";

/** GPT-2's printable stand-in for each of the 256 bytes. */
export function byteCharacters(): string[] {
  const printable = (byte: number) =>
    (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
}

/**
 * Learns merges, the most frequent pair first; of equally frequent pairs the first in code point order, so that the
 * result does not depend on the order of the texts.
 *
 * @param texts What to learn from, without special tokens.
 * @param count Most merges to learn; fewer where every word is one token before.
 */
export function learnMerges(texts: Iterable<string>, count: number): [string, string][] {
  const characters = byteCharacters();
  const encoder = new TextEncoder();
  const pattern = new RegExp(WORD, "gu");
  const frequencies = new Map<string, number>();
  for (const text of texts) {
    for (const word of text.match(pattern) ?? []) frequencies.set(word, (frequencies.get(word) ?? 0) + 1);
  }
  const words = [...frequencies].map(([word, frequency]) => ({
    pieces: Array.from(encoder.encode(word), (byte) => characters[byte] as string),
    frequency,
  }));
  const merges: [string, string][] = [];
  while (merges.length < count) {
    const pairs = new Map<string, number>();
    for (const { pieces, frequency } of words) {
      for (let i = 1; i < pieces.length; i++) {
        const pair = `${pieces[i - 1]} ${pieces[i]}`;
        pairs.set(pair, (pairs.get(pair) ?? 0) + frequency);
      }
    }
    let best: [string, number] | undefined;
    for (const [pair, frequency] of pairs) {
      if (!best || frequency > best[1] || (frequency === best[1] && pair < best[0])) best = [pair, frequency];
    }
    if (!best) break;
    const [left, right] = best[0].split(" ") as [string, string];
    merges.push([left, right]);
    for (const word of words) {
      const joined: string[] = [];
      for (const piece of word.pieces) {
        if (piece === right && joined.at(-1) === left) joined[joined.length - 1] = left + right;
        else joined.push(piece);
      }
      word.pieces = joined;
    }
  }
  return merges;
}

/**
 * The content of tokenizer.json: special tokens first, then the 256 bytes, then one token a merge.
 *
 * @returns an object for JSON.stringify()
 */
export function tokenizerJson(
  specialTokens: readonly string[],
  merges: readonly (readonly [string, string])[],
): Record<string, unknown> {
  const tokens = [...specialTokens, ...byteCharacters(), ...merges.map(([left, right]) => left + right)];
  return {
    version: "1.0",
    truncation: null,
    padding: null,
    added_tokens: specialTokens.map((content, id) => ({
      id,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: "Sequence",
      pretokenizers: [
        { type: "Split", pattern: { Regex: WORD }, behavior: "Isolated", invert: false },
        { type: "ByteLevel", add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: { type: "ByteLevel", add_prefix_space: true, trim_offsets: false, use_regex: false },
    decoder: { type: "ByteLevel", add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: "BPE",
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}
