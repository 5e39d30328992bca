import { type Json, text as textField, unlike } from "./_fields.ts";

/** Bytes of UTF-8 from which on a grapheme is looked up character by character. */
const LONG_GRAPHEME = 6;

/**
 * Sentencepiece's `precompiled_charsmap`: u32 size of a trie, the trie's u32 units (darts-clone's double array), then the
 * replacements that its values point into, each ended by a zero byte. Numbers are little-endian.
 *
 * A grapheme is replaced whole where the shortest key that it begins with has a replacement, whatever follows the key; so
 * does the Rust library. https://github.com/google/sentencepiece/blob/master/src/normalizer.cc
 */
export function readPrecompiled(json: Json): (text: string) => string {
  let bytes = new Uint8Array();
  try {
    bytes = Uint8Array.fromBase64(textField(json, "precompiled_charsmap"));
  } catch { /* told below */ }
  const view = new DataView(bytes.buffer);
  const size = bytes.length >= 4 ? view.getUint32(0, true) : 0;
  if (size === 0 || size % 4 !== 0 || size + 4 > bytes.length) {
    throw unlike(json, "precompiled_charsmap", "sentencepiece's map in base64");
  }
  const trie = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const replacements = bytes.subarray(4 + size);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const segmenter = new Intl.Segmenter("en", { granularity: "grapheme" });
  const known = new Map<string, string | null>();

  /** What the shortest key at the beginning of a text is replaced by. */
  const find = (text: string): string | null => {
    let at = offsetOf(trie[0]!);
    for (const byte of encoder.encode(text)) {
      if (byte === 0) return null;
      at ^= byte;
      const unit = trie[at];
      if (unit === undefined || (unit & 0x800000ff) !== byte) return null;
      at ^= offsetOf(unit);
      if (unit & 0x100) {
        const start = (trie[at] ?? 0) & 0x7fffffff;
        const end = replacements.indexOf(0, start);
        return decoder.decode(replacements.subarray(start, end < 0 ? undefined : end));
      }
    }
    return null;
  };
  const replacementOf = (text: string): string | null => {
    let found = known.get(text);
    if (found === undefined) {
      found = find(text);
      if (known.size < 2 ** 16) known.set(text, found);
    }
    return found;
  };
  const ofGrapheme = (grapheme: string): string => {
    const whole = bytesOf(grapheme) < LONG_GRAPHEME ? replacementOf(grapheme) : null;
    return whole ?? Array.from(grapheme, (character) => replacementOf(character) ?? character).join("");
  };
  const asciiStays = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i))
    .every((character) => replacementOf(character) === null);
  return (text) => {
    if (asciiStays && /^[ -~]*$/.test(text)) return text;
    return Array.from(segmenter.segment(text), ({ segment }) => ofGrapheme(segment)).join("");
  };
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}

function bytesOf(text: string): number {
  let bytes = 0;
  for (const character of text) {
    const code = character.codePointAt(0)!;
    bytes += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
  }
  return bytes;
}
