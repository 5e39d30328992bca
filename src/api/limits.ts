/**
 * How much a request may hold. Each bound stands in the schema, and with it in /openapi.json; a list or object is counted
 * before anything is built from it, and looked at no further than its first fault.
 */
import { z } from "zod";

/** Most of each, in one list or one object of a request. */
export const most = {
  /** UTF-16 units of one text: a few million tokens at the utmost. */
  textCharacters: 2 ** 22,
  /** UTF-16 units of a name or path. */
  nameCharacters: 4096,
  /** UTF-16 units of a pattern. */
  patternCharacters: 256,
  tokenIds: 2 ** 20,
  items: 20_000,
  candidates: 10_000,
  messages: 10_000,
  parts: 10_000,
  tools: 1000,
  /** Rows that come with a request; a file may have any number. */
  rows: 50_000,
  /** Keys of a turn, a tool, a row, variables of a template. */
  keys: 1000,
  files: 1000,
  modules: 2000,
} as const;

/** How long a whole number of tokens may be: no model's context comes near. */
export const mostTokens = 2 ** 22;

/** Scales of rewards and margins. */
export const mostBeta = 10_000;

/** Counts of steps. */
export const mostSteps = 1_000_000_000;

/** A whole number between bounds. */
export function wholeNumber(least: number, most: number): z.ZodInt {
  return z.int().min(least).max(most);
}

/** A number above 0. */
export function positive(most: number): z.ZodNumber {
  return z.number().positive().max(most);
}

/** A text of at most so many UTF-16 units. */
export function text(most: number, least = 0): z.ZodString {
  return least === 0 ? z.string().max(most) : z.string().min(least).max(most);
}

/** Token ids. */
export function tokenIds(min: number): z.ZodArray<z.ZodInt> {
  const highest = 2 ** 32 - 1;
  const accepts = (id: unknown) => Number.isInteger(id) && (id as number) >= 0 && (id as number) <= highest;
  return list(wholeNumber(0, highest), { min, max: most.tokenIds, accepts });
}

/** Of a list or an object: how many, and what is said where something else stands. */
interface Extent {
  readonly min?: number;
  readonly max: number;
  readonly error?: string;
  /** Whether an item is as the element's schema accepts and leaves it: asked first, as it is quicker. */
  readonly accepts?: (item: unknown) => boolean;
}

/** A list that is refused by its length alone where it is too long, and at its first item that is refused. */
export function list<T extends z.ZodType>(
  element: T,
  { min = 0, max, error, accepts }: Extent,
): z.ZodArray<T> {
  const any = z.array(element, error);
  const array = min === 0 ? any.max(max) : any.min(min).max(max);
  // Zod's own walk goes through all of a list and keeps what is wrong with each item.
  return withParse(array, (whole, inst) => (payload, context) => {
    const input: unknown = payload.value;
    if (!Array.isArray(input)) return whole(payload, context);
    if (input.length > max) return tooBig(payload, inst, "array", max);
    const items: unknown[] = new Array(input.length);
    payload.value = items;
    for (let i = 0; i < input.length; i++) {
      if (accepts?.(input[i])) {
        items[i] = input[i];
        continue;
      }
      const item = element._zod.run({ value: input[i], issues: [] }, context);
      if (item instanceof Promise) throw new TypeError("A list's items are checked without waiting.");
      if (item.issues.length > 0) {
        payload.issues.push(...z.core.util.prefixIssues(i, item.issues.slice(0, 1)));
        return payload;
      }
      items[i] = item.value;
    }
    return payload;
  });
}

/** An object of any keys, refused by their number alone where there are too many. */
export function mapping<Key extends z.ZodString, Value extends z.ZodType>(
  key: Key,
  value: Value,
  { max, error }: Pick<Extent, "max" | "error">,
): z.ZodRecord<Key, Value> {
  return withFewKeys(z.record(key, value, error), max);
}

/** An object with known and other keys, refused by their number alone where there are too many. */
export function openObject<Shape extends z.core.$ZodLooseShape>(
  shape: Shape,
  max: number,
): z.ZodObject<Shape, z.core.$loose> {
  return withFewKeys(z.looseObject(shape), max);
}

function withFewKeys<T extends z.ZodType>(schema: T, max: number): T {
  const few = withParse(schema, (whole, inst) => (payload, context) => {
    const { value } = payload;
    const fits = typeof value !== "object" || value === null || !hasMoreKeys(value, max);
    return fits ? whole(payload, context) : tooBig(payload, inst, "object", max);
  });
  return few.meta({ maxProperties: max });
}

/** Whether an object has more than `max` keys; no list of them all is made. */
function hasMoreKeys(value: object, max: number): boolean {
  let keys = 0;
  for (const _ in value) if (++keys > max) return true;
  return false;
}

type Parse = z.core.$ZodTypeInternals["parse"];

function tooBig(
  payload: z.core.ParsePayload,
  inst: z.core.$ZodType,
  origin: string,
  maximum: number,
): z.core.ParsePayload {
  const { value: input } = payload;
  payload.issues.push({ code: "too_big", origin, maximum, inclusive: true, input, inst });
  return payload;
}

/** A schema that parses otherwise; so do those that its methods (`meta`, `min`, …) make of it. */
function withParse<T extends z.ZodType>(
  schema: T,
  change: (whole: Parse, inst: z.core.$ZodType) => Parse,
): T {
  const internals = schema._zod;
  const { constr } = internals;
  let whole = internals.parse;
  const changed = change((payload, context) => whole(payload, context), schema);
  // Zod itself sets another after the first call.
  const replaced = { get: () => changed, set: (next: Parse) => whole = next, configurable: true };
  if (internals.run === whole) Object.defineProperty(internals, "run", replaced);
  Object.defineProperty(internals, "parse", replaced);
  const make = function (def: T["_zod"]["def"]) {
    return withParse(new constr(def) as T, change);
  };
  make.prototype = constr.prototype;
  internals.constr = make as never;
  return schema;
}
