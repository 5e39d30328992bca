/** Regular expressions over paths of modules, as PEFT's rank_pattern and alpha_pattern have them. */

/** What {@link isPattern} takes, as a phrase. */
export const PATTERN =
  "a regular expression without a repeated group, a lookaround or a back reference, and with at most 2 repetitions";

/**
 * Whether a text is such an expression. Others could take longer than anyone waits to find that they do not match: `(.+)+x`
 * doubles its time with each character.
 */
export function isPattern(source: string): boolean {
  // What is escaped, or in a class, stands for itself.
  const plain = source.replace(/\\[^1-9k]/g, "c").replace(/\[[^\]]*\]/g, "c");
  if (/\)[*+{]|\(\?(?!:)|\\/.test(plain)) return false;
  if ((plain.match(/[*+{]/g) ?? []).length > 2) return false;
  try {
    return new RegExp(source) !== null;
  } catch {
    return false;
  }
}
