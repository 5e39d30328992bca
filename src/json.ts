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
  if (value === undefined) return "nothing";
  const part = beginning(value, 80);
  const text = isDeeper(part, mostDepth) ? "a deep value" : JSON.stringify(part) ?? String(part);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

/**
 * A value of whose JSON at least `most` characters are the same: texts are cut, and objects and lists that come later are
 * left out. It takes a time that does not grow with the value.
 */
export function beginning(value: unknown, most: number): unknown {
  let left = most + 2;
  const cut = (value: unknown, depth: number): unknown => {
    if (typeof value === "string") {
      left -= value.length + 2;
      return value.length > most ? value.slice(0, most + 1) : value;
    }
    left -= 2;
    // JSON has no word for it: 1e999 would be shown as null
    if (typeof value === "number" && !Number.isFinite(value)) return String(value);
    if (typeof value !== "object" || value === null) return value;
    if (depth > mostDepth) return []; // that it goes on shows
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (let i = 0; i < value.length && left > 0; i++) items.push(cut(value[i], depth + 1));
      return items;
    }
    if (Object.getPrototypeOf(value) !== Object.prototype) return value;
    const fields: [string, unknown][] = [];
    for (const key in value) {
      if (left <= 0) break;
      left -= key.length + 3;
      fields.push([key, cut((value as Record<string, unknown>)[key], depth + 1)]);
    }
    return Object.fromEntries(fields);
  };
  return cut(value, 0);
}
