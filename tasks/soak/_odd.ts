/** Odd values, and how one comes into the place of a right one. */
import fc from "fast-check";

/**
 * Known faults of the service stay outside: epochs past 2^53, templates that are programs, lists of millions. Numbers are
 * small or so large that they are refused, texts short, templates without a statement.
 */
export const oddValue: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom(
    null,
    true,
    false,
    "",
    "\0",
    " ",
    "..",
    "../..",
    "/etc/passwd",
    "hf://a/b@c",
    "{{",
    "{% if",
    "\ud800",
  ),
  fc.constantFrom(0, -0, -1, 0.5, 1e-320, 2 ** 31, 2 ** 32, 2 ** 53, -1e308, "1", "NaN", [], {}, [[]], [{}]),
  fc.string({ unit: "binary", maxLength: 40 }),
  fc.string({ minLength: 2_000, maxLength: 20_000 }).map((text) => text.replaceAll("{%", "")),
  fc.array(fc.integer(), { maxLength: 50 }),
  fc.jsonValue({ maxDepth: 4 }),
);

/** Places in a value, the whole of it first, each as the keys that lead there. */
export function places(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== "object" || value === null) return [path];
  return [path, ...Object.entries(value).flatMap(([key, inner]) => places(inner, [...path, key]))];
}

/** A copy with another value in a place; undefined takes it away. */
export function changed(value: unknown, [key, ...rest]: readonly string[], put: unknown): unknown {
  if (key === undefined) return put;
  const copy = Array.isArray(value) ? [...value] : { ...value as Record<string, unknown> };
  const at = copy as Record<string, unknown>;
  if (rest.length === 0 && put === undefined) delete at[key];
  else at[key] = changed(at[key], rest, put);
  return copy;
}
