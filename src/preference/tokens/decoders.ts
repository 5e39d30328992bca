/**
 * How tokens become text, as tokenizer.json's `decoder` says.
 *
 * @module
 */
import { joined } from "../../bytes.ts";
import { spelledBytes } from "./_byte_characters.ts";
import { character, count, flag, type Json, readList, readTyped, text, word } from "./_fields.ts";
import { partsOf, readPattern } from "./_pattern.ts";

/** Texts of tokens as they stand in the vocabulary to texts that are joined, or that the next decoder takes. */
export type Decoder = (tokens: readonly string[]) => readonly string[];

/** Reads a `decoder`. @throws {InputError} naming the field at fault */
export function readDecoder(json: unknown): Decoder {
  return readTyped("decoder", json, READERS);
}

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const lossy = new TextDecoder("utf-8", { ignoreBOM: true });

const READERS: Readonly<Record<string, (json: Json) => Decoder>> = {
  Sequence: (json) => {
    const all = readList(json, "decoders", readDecoder);
    return (tokens) => all.reduce((tokens, decode) => decode(tokens), tokens);
  },
  ByteLevel: () => (tokens) => {
    return [lossy.decode(joined(tokens.map(spelledBytes)))];
  },
  ByteFallback: () => fallback,
  Fuse: () => (tokens) => [tokens.join("")],
  Metaspace: (json) => {
    const space = character(json, "replacement");
    const keeps = word(json, "prepend_scheme", ["first", "never", "always"], "always") === "never" ||
      json["add_prefix_space"] === false;
    return (tokens) =>
      tokens.map((token, index) => token.replaceAll(space, index === 0 && !keeps ? "" : " "));
  },
  WordPiece: (json) => {
    const prefix = text(json, "prefix");
    const tidies = flag(json, "cleanup");
    return (tokens) =>
      tokens.map((token, index) => {
        const joined = index === 0
          ? token
          : token.startsWith(prefix)
          ? token.slice(prefix.length)
          : ` ${token}`;
        return tidies ? tidy(joined) : joined;
      });
  },
  BPEDecoder: (json) => {
    const suffix = text(json, "suffix");
    return (tokens) =>
      tokens.map((token, index) => token.replaceAll(suffix, index === tokens.length - 1 ? "" : " "));
  },
  CTC: (json) => {
    const pad = text(json, "pad_token");
    const delimiter = text(json, "word_delimiter_token");
    const tidies = flag(json, "cleanup");
    return (tokens) =>
      tokens.filter((token, index) => token !== tokens[index - 1]).map((token) => {
        const kept = token.replaceAll(pad, "");
        return tidies ? tidy(kept).replaceAll(delimiter, " ") : kept;
      }).filter((token) => token !== "");
  },
  Strip: (json) => {
    const stripped = character(json, "content");
    const [start, stop] = [count(json, "start", 0), count(json, "stop", 0)];
    return (tokens) =>
      tokens.map((token) => {
        const characters = Array.from(token);
        let from = 0;
        while (from < Math.min(start, characters.length) && characters[from] === stripped) from++;
        let to = characters.length;
        while (to > Math.max(from, characters.length - stop) && characters[to - 1] === stripped) to--;
        return characters.slice(from, to).join("");
      });
  },
  Replace: (json) => {
    const pattern = readPattern(json);
    const content = text(json, "content");
    return (tokens) =>
      tokens.map((token) =>
        partsOf(token, pattern).map((part) => part.matches ? content : part.text).join("")
      );
  },
};

/** Tokens of bytes side by side as their text, or U+FFFD for each where they are none. */
function fallback(tokens: readonly string[]): string[] {
  const texts: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    try {
      if (bytes.length > 0) texts.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      for (const _ of bytes) texts.push("\ufffd");
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = /^<0x([0-9a-f]{2}|\+[0-9a-f])>$/i.exec(token)?.[1];
    if (byte !== undefined) {
      bytes.push(parseInt(byte, 16));
    } else {
      flush();
      texts.push(token);
    }
  }
  flush();
  return texts;
}

/** Takes spaces away as an English text has none there. */
function tidy(text: string): string {
  return text.replaceAll(" .", ".").replaceAll(" ?", "?").replaceAll(" !", "!").replaceAll(" ,", ",")
    .replaceAll(" ' ", "'").replaceAll(" n't", "n't").replaceAll(" 'm", "'m")
    .replaceAll(" do not", " don't").replaceAll(" 's", "'s").replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");
}
