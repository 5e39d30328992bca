/** What the Rust library makes of code points and strings, by digests: tests/reference/make_tokenizers.py. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Tokenizer } from "../../src/preference/tokenizer.ts";
import { VALUES } from "../reference/values.ts";
import { type Files, load } from "./_tokenizers.ts";

/** Digests of a style, of 6 digits each: of blocks of 256 code points, and of 20 random strings. */
interface Digests {
  readonly code_points: string;
  readonly strings: string;
}

const read = async <T>(file: string): Promise<T> =>
  JSON.parse(await readFile(`${VALUES}/tokenizers/${file}`, "utf8"));
/** Digests by style. */
export const digests = await read<Record<string, Digests>>("digests.json");
const models = await read<Record<string, Files>>("models.json");
const pieces = await read<string[]>("pieces.json");
const unicode = await read<Record<string, [string, string][]>>("unicode.json");

const DIGITS = 6;
const STRINGS = 2000;
const STRINGS_A_DIGEST = 20;
/** Latin to Thai, marks and spaces, Kana, compatibility forms, mathematical and emoji: where the pieces of a text end. */
export const SAMPLE = [0x00, 0x02, 0x03, 0x06, 0x0e, 0x16, 0x20, 0x24, 0x30, 0xff, 0x1d7, 0x1f6];

/** Style `name` as a tokenizer.json has it: models that several styles share are kept apart. */
export async function tokenizerOf(name: string): Promise<Tokenizer> {
  const json = await read<Files & { model: { shared: string } }>(`${name}.json`);
  const { shared, ...model } = json.model;
  return await load({ "tokenizer.json": { ...json, model: { ...model, ...models[shared] } } });
}

/** Code points of a style that are left out, as the libraries' versions of Unicode differ in them. */
function leftOut(name: string): ReadonlySet<number> {
  const codes = new Set<number>();
  for (const [first, last] of unicode[name] ?? []) {
    for (let code = parseInt(first, 16); code <= parseInt(last, 16); code++) codes.add(code);
  }
  return codes;
}

function digestOf({ encode, decode }: Tokenizer, texts: readonly string[]): string {
  const results = texts.map((text) => {
    const ids = encode(text);
    return `${ids.join(",")}|${decode(ids)}`;
  });
  return createHash("sha256").update(results.join("\n")).digest("hex").slice(0, DIGITS);
}

/** Each code point of a block alone and between others. */
function blockTexts(block: number, out: ReadonlySet<number>): string[] {
  const codes = Array.from({ length: 256 }, (_, i) => 256 * block + i)
    .filter((code) => !(code >= 0xd800 && code < 0xe000) && !out.has(code));
  return codes.map((code) => String.fromCodePoint(code))
    .flatMap((character) => [character, `a${character}b`, `\n ${character}1`]);
}

/** The strings that make_tokenizers.py makes by the same generator. */
function randomStrings(): string[] {
  let state = 1;
  const below = (limit: number) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 8) % limit;
  };
  return Array.from({ length: STRINGS }, () => {
    let text = "";
    for (let left = 1 + below(8); left > 0; left--) {
      text += pieces[below(pieces.length)]! + ["", "", " ", "a"][below(4)]!;
    }
    return text;
  });
}

/** @param blocks of 256 code points each @throws where one of them differs */
export function compareBlocks(name: string, tokenizer: Tokenizer, blocks: readonly number[]): void {
  const out = leftOut(name);
  const { code_points } = digests[name]!;
  const differing = blocks.filter((block) =>
    digestOf(tokenizer, blockTexts(block, out)) !==
      code_points.slice(DIGITS * block, DIGITS * (block + 1))
  );
  assert.deepEqual(differing.map((block) => `U+${(256 * block).toString(16)}`), []);
}

/** @throws where one of the random strings differs */
export function compareStrings(name: string, tokenizer: Tokenizer): void {
  const out = leftOut(name);
  const strings = randomStrings().filter((text) => !Array.from(text).some((c) => out.has(c.codePointAt(0)!)));
  for (let start = 0; start < strings.length; start += STRINGS_A_DIGEST) {
    const some = strings.slice(start, start + STRINGS_A_DIGEST);
    const at = DIGITS * start / STRINGS_A_DIGEST;
    assert.equal(
      digestOf(tokenizer, some),
      digests[name]!.strings.slice(at, at + DIGITS),
      JSON.stringify(some),
    );
  }
}

/** Every code point below U+20000. */
export const EVERY_BLOCK: readonly number[] = Array.from({ length: 512 }, (_, block) => block);
