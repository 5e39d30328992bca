/** JSON values whose shape is not known yet. */

/** Whether a value is a JSON object (not null, not a list). */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value has objects or lists in one another more than `most` deep. */
export function isDeeper(value: unknown, most: number): boolean {
  if (!isObject(value) && !Array.isArray(value)) return false;
  return most === 0 || Object.values(value).some((inner) => isDeeper(inner, most - 1));
}

/** How deep a request's free values may go: what is written to JSON or sent to another thread recurses. */
export const mostDepth = 64;

/** How deep a row of data may go: deeper values are none, and would overflow the stack of whoever walks through them. */
export const mostRowDepth = 100;

/**
 * A value as an error message shows it: JSON, cut to one short line.
 *
 * @param value any JSON value; undefined stands for a missing one
 */
export function show(value: unknown): string {
  const text = value === undefined
    ? "nothing"
    : isDeeper(value, mostDepth)
    ? "a deep value"
    : JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
