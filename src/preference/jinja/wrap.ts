/** `textwrap.wrap`, which the filter `wordwrap` is made of. */
import { chargeList, chargeText, step } from "./budget.ts";
import { fail } from "./errors.ts";
import { lengthOf, strip, unitIndex } from "./text.ts";

export interface WrapOptions {
  readonly width: number;
  readonly breakLongWords: boolean;
  readonly breakOnHyphens: boolean;
}

const SPACE = "[\\t\\n\\v\\f\\r ]";
const OTHER = "[^\\t\\n\\v\\f\\r ]";
const WORD = "[\\p{L}\\p{N}_]";
const PUNCTUATED = "[\\p{L}\\p{N}_!\"'&.,?]";
const LETTER = "[\\p{L}\\p{Nl}\\p{No}_]";
/** White space, a dash between words, or a word up to a hyphen, a dash or white space. */
const WITH_HYPHENS =
  `${SPACE}+|(?<=${PUNCTUATED})-{2,}(?=${WORD})|${OTHER}+?(?:-(?:(?<=${LETTER}{2}-)|(?<=${LETTER}-${PUNCTUATED}-))` +
  `(?=${LETTER}-?${LETTER})|(?=${SPACE}|$)|(?<=${PUNCTUATED})(?=-{2,}${WORD}))`;
const WORDS = `${SPACE}+|${OTHER}+`;

/** A paragraph as lines of at most so many code points. */
export function wrap(text: string, { width, breakLongWords, breakOnHyphens }: WrapOptions): string[] {
  if (width <= 0) fail(`invalid width ${width} (must be > 0)`);
  chargeText(text.length * 2);
  const chunks = (text.match(new RegExp(breakOnHyphens ? WITH_HYPHENS : WORDS, "gu")) ?? []).reverse();
  const blank = (chunk: string | undefined) => chunk !== undefined && strip(chunk, null, "both") === "";
  const lines: string[] = [];
  while (chunks.length > 0) {
    step();
    if (lines.length > 0 && blank(chunks.at(-1))) chunks.pop();
    const line: string[] = [];
    let length = 0;
    while (chunks.length > 0) {
      step();
      const next = lengthOf(chunks.at(-1)!);
      if (length + next > width) break;
      line.push(chunks.pop()!);
      length += next;
    }
    if (chunks.length > 0 && lengthOf(chunks.at(-1)!) > width) {
      if (breakLongWords) {
        const word = chunks.pop()!;
        const end = cut(word, width - length, breakOnHyphens);
        line.push(word.slice(0, end));
        chunks.push(word.slice(end));
        chargeText(word.length);
      } else if (line.length === 0) line.push(chunks.pop()!);
    }
    if (blank(line.at(-1))) line.pop();
    if (line.length > 0) {
      chargeList(1);
      lines.push(line.join(""));
    }
  }
  return lines;
}

/** Where a word that is too long is cut: behind its last hyphen that fits, else where the line ends. */
function cut(word: string, space: number, breakOnHyphens: boolean): number {
  const end = unitIndex(word, space);
  if (!breakOnHyphens) return end;
  const hyphen = word.slice(0, end).lastIndexOf("-");
  return hyphen > 0 && /[^-]/.test(word.slice(0, hyphen)) ? hyphen + 1 : end;
}
