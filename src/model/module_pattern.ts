/** Regular expressions over paths of modules, as PEFT's target_modules and rank_pattern have them. */

/** Of an expression: with each the time may grow by the length of a path. */
const MOST_REPETITIONS = 6;

/** What {@link isPattern} takes, as a phrase. */
export const PATTERN =
  `a regular expression in which no group is repeated, with at most ${MOST_REPETITIONS} repetitions`;

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
  const plain = source.replace(/\\./gs, "c").replace(/\[[^\]]*\]/g, "c");
  return !/\)[*+{]/.test(plain) && (plain.match(/[*+{]/g) ?? []).length <= MOST_REPETITIONS;
}
