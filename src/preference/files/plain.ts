/** Values of a table as JSON would have them. */

/**
 * Drops nulls inside structs, each of whose rows must have every row's keys: templates ask whether `name` is defined. Whole
 * numbers of 64 bits become numbers, dates their ISO text.
 */
function plain(value: unknown): unknown {
  if (typeof value === "bigint") return Number(value);
  if (value instanceof Date) return isNaN(value.getTime()) ? null : value.toISOString();
  if (Array.isArray(value)) return value.map(plain);
  if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    return Array.from(value as BigInt64Array, plain);
  }
  if (typeof value !== "object" || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
    return value;
  }
  const entries = Object.entries(value).filter(([, inner]) => inner != null);
  return Object.fromEntries(entries.map(([key, inner]) => [key, plain(inner)]));
}

/** A row: a null column stays, so that it can be told from one that the table does not have. */
export function plainRow(row: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [key, plain(value) ?? null]));
}
