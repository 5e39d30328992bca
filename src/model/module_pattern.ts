/** Regular expressions over paths of modules, as PEFT's target_modules and rank_pattern have them. */

/** Of an expression: with each the time may grow by the length of a path. */
const MOST_REPETITIONS = 6;
/** By so many powers of two the time grows with a repetition: six in a path of 40 characters are three million ways. */
const REPETITION_BITS = 3.6;
/** Ways to match that an expression may have at most, as a power of two: a tenth of a second. */
const MOST_BITS = 24;

/** What {@link isPattern} takes, as a phrase. */
export const PATTERN =
  `a regular expression in which no group is repeated, with at most ${MOST_REPETITIONS} repetitions and few ` +
  "optional parts and alternatives that begin alike";

/**
 * Whether a text is such an expression. Others could take longer than anyone waits to find that they do not match: `(.+)+x`
 * doubles its time with each character.
 */
export function isPattern(source: string): boolean {
  if (!isQuick(source)) return false;
  try {
    return new RegExp(source) !== null;
  } catch {
    return false;
  }
}

/** The part of {@link isPattern} that holds for other languages' expressions too. */
export function isQuick(source: string): boolean {
  // What is escaped, or in a class, is one character.
  const plain = source.replace(/\\./gs, ANY).replace(/\[[^\]]*\]/g, ANY);
  const repetitions = count(plain, /[*+{]/g);
  if (/\)[*+{]/.test(plain) || repetitions > MOST_REPETITIONS) return false;
  // what asks for a group's kind, or makes a repetition lazy, leaves nothing open
  const optional = count(plain, /(?<![(*+?}])\?/g);
  const doubt = alternatives(plain).reduce((sum, heads) => sum + Math.log2(likeliest(heads)), 0);
  return repetitions * REPETITION_BITS + optional + doubt <= MOST_BITS;
}

/** Stands for a character that may be any. */
const ANY = "\0";

function count(text: string, what: RegExp): number {
  return text.match(what)?.length ?? 0;
}

/** Of each group, and of the whole, what its alternatives begin with. */
function alternatives(plain: string): string[][] {
  const whole: string[] = [plain[0] ?? ""];
  const open = [whole];
  const all = [whole];
  for (const { 0: sign, index } of plain.matchAll(/\((?:\?(?:P?<\w+>|<?[=!]|:))?|[|)]/g)) {
    const head = plain[index + sign.length] ?? "";
    if (sign === ")") open.pop();
    else if (sign === "|") open.at(-1)?.push(head);
    else {
      const group = [head];
      open.push(group);
      all.push(group);
    }
  }
  return all;
}

/** How many alternatives of a group may go on where one does: those that begin alike, or with what is no letter. */
function likeliest(heads: readonly string[]): number {
  // an expression may ignore case
  const letters = heads.filter((head) => /\w/.test(head)).map((head) => head.toLowerCase());
  const alike = Math.max(0, ...letters.map((head) => letters.filter((other) => other === head).length));
  return Math.max(1, alike + heads.length - letters.length);
}

/** For how long modules may be looked for by the patterns of one field, at a time. */
const MOST_MS = 1000;
/** Another time. */
const PAUSE_MS = 5000;

/** Matches paths by the patterns of one field, as long as that takes no longer than anyone waits. */
export class ModuleMatcher {
  #ms = 0;
  #last = 0;

  /** @param refuse throws what the field is refused with where it takes too long */
  constructor(private readonly refuse: () => never) {}

  matches(pattern: RegExp, path: string): boolean {
    const start = performance.now();
    if (start > this.#last + PAUSE_MS) this.#ms = 0;
    const found = pattern.test(path);
    this.#last = performance.now();
    this.#ms += this.#last - start;
    return this.#ms > MOST_MS ? this.refuse() : found;
  }
}
