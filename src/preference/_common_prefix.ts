/** How many entries both begin with. */
export function commonPrefix(a: ArrayLike<unknown>, b: ArrayLike<unknown>): number {
  const most = Math.min(a.length, b.length);
  let length = 0;
  while (length < most && a[length] === b[length]) length++;
  return length;
}

/**
 * How many UTF-16 units both texts begin with, never half of a surrogate pair.
 *
 * @example Two emoji that share their first unit
 * ```ts
 * import assert from "node:assert/strict";
 * import { commonTextPrefix } from "./_common_prefix.ts";
 * assert.equal(commonTextPrefix("so 😀", "so 😁"), 3);
 * ```
 */
export function commonTextPrefix(a: string, b: string): number {
  const length = b.startsWith(a) ? a.length : commonPrefix(a, b);
  const last = a.charCodeAt(length - 1);
  return last >= 0xd800 && last < 0xdc00 ? length - 1 : length;
}
