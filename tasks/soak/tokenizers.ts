/** Every code point by every style of tokenizer. */
import {
  compareBlocks,
  compareStrings,
  digests,
  EVERY_BLOCK,
  tokenizerOf,
} from "../../tests/preference/_tokenizer_digests.ts";
import type { Soak } from "./_soak.ts";

/** Compares one style with what the Rust library made of the same texts. @returns how many code points were looked at */
export async function compareStyle(style: string): Promise<{ code_points: number }> {
  const tokenizer = await tokenizerOf(style);
  compareBlocks(style, tokenizer, EVERY_BLOCK);
  compareStrings(style, tokenizer);
  return { code_points: 256 * EVERY_BLOCK.length };
}

/** See {@link compareStyle}. */
export const tokenizers: Soak = {
  proves:
    "Every code point below U+20000 has the tokens that the Rust library gives it, in every style of tokenizer.",
  version: 1,
  cells: Object.keys(digests),
  minutesPerCell: 1,
  run: (cell) => compareStyle(cell),
};
