/**
 * A JSON value in parts of bounded size: whoever takes it over from another thread is held up by a part at a time and
 * serves others between two of them.
 */

type Json = Record<string, unknown> | unknown[];

/** Some of what an object or list holds; the first part stands alone in the list that is the root. */
export interface JsonPart {
  /** Where the object or list is, from the root. */
  readonly path: readonly (string | number)[];
  /** Its next items or fields; what is large among them is empty, and filled by later parts. */
  readonly entries: readonly (readonly [key: string, value: unknown])[] | null;
  readonly items: readonly unknown[] | null;
}

/** Values, keys and brackets of a part: some milliseconds' work. */
export const PART_WEIGHT = 8000;

/** A value's parts, those around others first. */
export function* jsonParts(value: unknown): Generator<JsonPart> {
  const root = [value];
  const queue: { readonly path: (string | number)[]; readonly whole: Json }[] = [{ path: [], whole: root }];
  for (const { path, whole } of queue) {
    let part: [string | number, unknown][] = [];
    let weight = 0;
    const flush = (): JsonPart => {
      const entries = Array.isArray(whole) ? null : part as [string, unknown][];
      const items = Array.isArray(whole) ? part.map(([, item]) => item) : null;
      part = [];
      weight = 0;
      return { path, entries, items };
    };
    for (const key of Array.isArray(whole) ? whole.keys() : Object.keys(whole)) {
      const inner = (whole as Record<string | number, unknown>)[key];
      const heavy = weightOf(inner, PART_WEIGHT);
      weight += 1 + Math.min(heavy, 8);
      if (heavy < PART_WEIGHT || typeof inner !== "object") {
        weight += heavy;
        part.push([key, inner]);
      } else {
        part.push([key, Array.isArray(inner) ? [] : {}]);
        queue.push({ path: [...path, key], whole: inner as Json });
      }
      if (weight >= PART_WEIGHT) yield flush();
    }
    if (part.length > 0) yield flush();
  }
}

/** Puts parts together as they come. */
export class JsonAssembly {
  readonly #root: unknown[] = [];

  /** Takes the next part. */
  add({ path, entries, items }: JsonPart): void {
    const place = path.reduce(
      (at: unknown, key) => (at as Record<string | number, unknown>)[key],
      this.#root,
    );
    if (items !== null) { for (const item of items) (place as unknown[]).push(item); }
    for (const [key, value] of entries ?? []) {
      // As JSON.parse does: a field of its own also where it is called __proto__.
      Object.defineProperty(place, key, { value, enumerable: true, writable: true, configurable: true });
    }
  }

  /** The whole, after the last part. */
  get value(): unknown {
    return this.#root[0];
  }
}

/** How much a value holds, counted no further than `most`. */
export function weightOf(value: unknown, most: number): number {
  if (typeof value === "string") return value.length >> 10; // copied quickly
  if (typeof value !== "object" || value === null) return 0;
  let weight = 4;
  const inner = Array.isArray(value) ? value : Object.values(value);
  for (const each of inner) {
    weight += 1 + weightOf(each, most - weight);
    if (weight >= most) return most;
  }
  return Array.isArray(value) ? weight : weight + inner.length;
}
