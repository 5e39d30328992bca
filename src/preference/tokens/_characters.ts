/**
 * Sets of characters by the names that the Rust library gives them, as the inside of a character class of a regular
 * expression with the flag `u` or `v`.
 *
 * @module
 */

/** `char::is_whitespace`, and `\s` of the crate regex: Unicode's White_Space. JavaScript's `\s` has U+FEFF and lacks U+0085. */
export const WHITE_SPACE = "\\p{White_Space}";

/** `char::is_numeric`. */
export const NUMERIC = "\\p{N}";

/** `char::is_ascii_punctuation` or a punctuation by its category. */
export const PUNCTUATION = "\\p{P}!-\\/:-@\\[-`\\{-~";

/** `\w` of the crate regex (UTS 18). */
export const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
