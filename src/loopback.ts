/** Names and addresses that lead to this machine and to no other. */

/**
 * Whether a host is this machine whoever asks: `localhost`, a name under it, 127.0.0.0/8, ::1.
 *
 * @param host a name, or an address with or without brackets
 *
 * @example A name, and an address of all
 * ```ts
 * import assert from "node:assert/strict";
 * import { isLoopback } from "./loopback.ts";
 * assert.ok(isLoopback("localhost"));
 * assert.ok(!isLoopback("0.0.0.0"));
 * ```
 */
export function isLoopback(host: string): boolean {
  const bare = host.toLowerCase().replace(/^\[(.*)\]$/, "$1").replace(/\.$/, "");
  const name = URL.parse(`http://${bare.includes(":") ? `[${bare}]` : bare}`)?.hostname ?? "";
  return /^(.+\.)?localhost$/.test(name) || /^127(\.\d+){3}$/.test(name) || name === "[::1]" ||
    /^\[::ffff:7f[\da-f]{2}:[\da-f]{1,4}\]$/.test(name); // 127.0.0.0/8 as IPv6 has it
}
