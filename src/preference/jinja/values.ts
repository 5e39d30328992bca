/**
 * Python's values, as a template sees them.
 *
 * | Python | here |
 * | --- | --- |
 * | None, bool, str | null, boolean, string (its length and indices are of code points: `text.ts`) |
 * | int | number, a whole one within 2^53; past it the template is refused |
 * | float | {@link Float} |
 * | list, tuple | array, {@link Tuple} |
 * | dict | {@link Dict} |
 * | range, iterators, functions, … | the classes below |
 *
 * Lists and dicts never change: the sandbox that transformers runs templates in forbids it.
 */
import { chargeList, step } from "./budget.ts";
import { fail, UnsupportedError } from "./errors.ts";

export type Value =
  | null
  | boolean
  | number
  | string
  | Float
  | readonly Value[]
  | Tuple
  | Dict
  | DictView
  | Range
  | Stream
  | Markup
  | Undefined
  | Callable
  | Instance;

/** A float; whole or not, it is none of the ints. */
export class Float {
  constructor(readonly value: number) {}
}

export class Tuple {
  /** @param names of a named tuple's entries */
  constructor(readonly items: readonly Value[], readonly names: readonly string[] = []) {}
}

/** HTML that filters such as `escape` have made: it prints as it is, and escapes what is added to it. */
export class Markup {
  constructor(readonly text: string) {}
}

/** What a name or an attribute that is not there gives: it prints as nothing, and fails where more is asked of it. */
export class Undefined {
  /** @param message what it fails with */
  constructor(readonly message: string) {}
}

/** An iterator: it can be gone through once, and has no length. */
export class Stream implements Iterable<Value> {
  readonly #iterator: Iterator<Value>;

  /** @param type Python's name of the type */
  constructor(readonly type: string, iterable: Iterable<Value>) {
    this.#iterator = iterable[Symbol.iterator]();
  }

  [Symbol.iterator](): Iterator<Value> {
    // without a `return`, so that a loop that is left early leaves the rest
    return { next: () => this.#iterator.next() };
  }
}

export class Range implements Iterable<number> {
  readonly length: number;

  constructor(readonly start: number, readonly stop: number, readonly step: number) {
    this.length = Math.max(0, Math.ceil((stop - start) / step));
  }

  at(index: number): number {
    return this.start + index * this.step;
  }

  *[Symbol.iterator](): Generator<number> {
    for (let index = 0; index < this.length; index++) yield this.at(index);
  }
}

/** A dict: it keeps the order in which keys came; 1, 1.0 and True are one key. */
export class Dict {
  readonly #entries = new Map<unknown, readonly [key: Value, value: Value]>();

  constructor(entries: Iterable<readonly [Value, Value]> = []) {
    for (const [key, value] of entries) {
      chargeList(1);
      const hash = hashOf(key);
      const known = this.#entries.get(hash);
      this.#entries.set(hash, [known ? known[0] : key, value]);
    }
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: Value): Value | undefined {
    return this.#entries.get(typeof key === "string" ? key : hashOf(key))?.[1];
  }

  entries(): Iterable<readonly [Value, Value]> {
    return this.#entries.values();
  }

  *keys(): Generator<Value> {
    for (const [key] of this.#entries.values()) yield key;
  }

  *values(): Generator<Value> {
    for (const [, value] of this.#entries.values()) yield value;
  }
}

/** What `keys()`, `values()` and `items()` of a dict give. */
export class DictView implements Iterable<Value> {
  constructor(readonly dict: Dict, readonly kind: "keys" | "values" | "items") {}

  *[Symbol.iterator](): Generator<Value> {
    if (this.kind !== "items") yield* this.dict[this.kind]();
    else for (const entry of this.dict.entries()) yield new Tuple(entry);
  }
}

/** Arguments by name. */
export type Keywords = ReadonlyMap<string, Value>;

/** A function, method, macro or class. */
export class Callable {
  constructor(
    /** What it prints as. */
    readonly name: string,
    readonly call: (args: readonly Value[], keywords: Keywords) => Value,
    /** Attributes that a template may read. */
    readonly attributes: ReadonlyMap<string, Value> = new Map(),
  ) {}
}

/** An object of Jinja2's own, with attributes: a namespace, a loop, a cycler. */
export abstract class Instance {
  /** Python's name of the type. */
  abstract readonly type: string;
  /** An attribute; `undefined` where there is none. */
  abstract attribute(name: string): Value | undefined;
  /** What it prints as. */
  abstract print(): string;
}

/** Python's name of a value's type. */
export function typeName(value: Value): string {
  if (value === null) return "NoneType";
  switch (typeof value) {
    case "boolean":
      return "bool";
    case "number":
      return "int";
    case "string":
      return "str";
  }
  if (Array.isArray(value)) return "list";
  if (value instanceof Float) return "float";
  if (value instanceof Tuple) return "tuple";
  if (value instanceof Dict) return "dict";
  if (value instanceof DictView) return `dict_${value.kind}`;
  if (value instanceof Range) return "range";
  if (value instanceof Markup) return "Markup";
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Callable) return "function";
  return (value as Stream | Instance).type;
}

/** Whether a value counts as true. @throws {TemplateError} never */
export function truth(value: Value): boolean {
  if (value === null || typeof value !== "object") return Boolean(value);
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Dict) return value.size > 0;
  if (value instanceof Undefined) return false;
  if (value instanceof Float) return value.value !== 0;
  if (value instanceof Tuple) return value.items.length > 0;
  if (value instanceof Range) return value.length > 0;
  if (value instanceof Markup) return value.text !== "";
  if (value instanceof DictView) return value.dict.size > 0;
  return true;
}

/** A str or Markup's text, else null. */
export function textOf(value: Value): string | null {
  if (typeof value === "string") return value;
  return value instanceof Markup ? value.text : null;
}

/** An int or bool as a number, else null. */
export function intOf(value: Value): number | null {
  if (typeof value === "number") return value;
  return typeof value === "boolean" ? Number(value) : null;
}

/** An int, bool or float as a number, else null. */
export function numberOf(value: Value): number | null {
  return value instanceof Float ? value.value : intOf(value);
}

/** A whole number as an int. @throws {UnsupportedError} past 2^53, where JavaScript's numbers skip some */
export function int(value: number): number {
  if (!Number.isSafeInteger(value)) throw new UnsupportedError("an integer past 2^53");
  return value + 0; // not -0
}

/** What a dict knows a key by: equal for equal keys. */
export function hashOf(key: Value): unknown {
  if (typeof key === "string") return key;
  const number = numberOf(key);
  if (number !== null || key === null) return number;
  if (key instanceof Tuple) return `\0${JSON.stringify(key.items.map(hashText))}`;
  if (key instanceof Markup) return key.text;
  if (Array.isArray(key) || key instanceof Dict) fail(`unhashable type: '${typeName(key)}'`);
  if (key instanceof DictView || key instanceof Range) {
    throw new UnsupportedError(`a ${typeName(key)} as a key`);
  }
  return key instanceof Undefined ? Undefined : key;
}

function hashText(key: Value): string {
  step();
  const hash = hashOf(key);
  if (typeof hash === "object" && hash !== null || typeof hash === "function") {
    throw new UnsupportedError("a key that is a tuple of such values");
  }
  return typeof hash === "string" ? `s${hash}` : `${hash}`;
}

/**
 * What a request or a file has, as the template's values: objects become dicts, whole numbers ints.
 *
 * @throws {UnsupportedError} for a whole number past 2^53: reading it as JSON has changed its digits
 */
export function fromJson(value: unknown): Value {
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      return Number.isInteger(value) ? int(value) : new Float(value);
    case "object":
      if (value === null) return null;
      if (Array.isArray(value)) return value.map(fromJson);
      if (value instanceof Float) return value;
      return new Dict(
        Object.entries(value).filter(([, entry]) => entry !== undefined).map((
          [key, entry],
        ) => [key, fromJson(entry)]),
      );
  }
  throw new UnsupportedError(`a variable of type ${typeof value}`);
}
