/** Python's `==`, `<`, `in`, `len()` and `iter()`. */
import { chargeList, chargeSearch, chargeText, deeper, step } from "./budget.ts";
import { fail, TemplateError, UnsupportedError } from "./errors.ts";
import { lengthOf } from "./text.ts";
import {
  Dict,
  DictView,
  hashOf,
  Instance,
  Markup,
  numberOf,
  Range,
  Stream,
  textOf,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

export function equals(a: Value, b: Value): boolean {
  if (a === b) return true;
  const number = numberOf(a);
  if (number !== null) return number === numberOf(b);
  if (typeof a === "string" && typeof b === "string") {
    if (a.length === b.length) chargeSearch(a.length);
    return false;
  }
  if (a instanceof Markup || b instanceof Markup) return textOf(a) !== null && textOf(a) === textOf(b);
  if (a instanceof Undefined) return b instanceof Undefined;
  if (Array.isArray(a)) return Array.isArray(b) && sameItems(a, b);
  if (a instanceof Tuple) return b instanceof Tuple && sameItems(a.items, b.items);
  if (a instanceof Dict) return b instanceof Dict && sameEntries(a, b);
  if (a instanceof Range) return b instanceof Range && sameItems([...a], [...b]);
  if (a instanceof DictView && b instanceof DictView) {
    throw new UnsupportedError("comparing what a dict's keys() or items() give");
  }
  return false;
}

function sameItems(a: readonly Value[], b: readonly Value[]): boolean {
  if (a.length !== b.length) return false;
  return deeper(() =>
    a.every((item, i) => {
      step();
      return equals(item, b[i]!);
    })
  );
}

function sameEntries(a: Dict, b: Dict): boolean {
  if (a.size !== b.size) return false;
  return deeper(() => {
    for (const [key, value] of a.entries()) {
      step();
      const other = b.get(key);
      if (other === undefined || !equals(value, other)) return false;
    }
    return true;
  });
}

/** Whether the first is less; texts by code points. @throws {TemplateError} where Python has no order */
export function less(a: Value, b: Value, operator = "<"): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x < y;
  const [s, t] = [textOf(a), textOf(b)];
  if (s !== null && t !== null) return comparePoints(s, t) < 0;
  if (Array.isArray(a) && Array.isArray(b)) return lessItems(a, b, operator);
  if (a instanceof Tuple && b instanceof Tuple) return lessItems(a.items, b.items, operator);
  refuseUndefined(a, b);
  if (a instanceof DictView && b instanceof DictView) {
    throw new UnsupportedError("comparing what a dict's keys() or items() give");
  }
  return fail(`'${operator}' not supported between instances of '${typeName(a)}' and '${typeName(b)}'`);
}

function lessItems(a: readonly Value[], b: readonly Value[], operator: string): boolean {
  return deeper(() => {
    for (let i = 0; i < a.length && i < b.length; i++) {
      step();
      if (!equals(a[i]!, b[i]!)) return less(a[i]!, b[i]!, operator);
    }
    return a.length < b.length;
  });
}

/** The first is less or equal; NaN is neither. */
export function lessOrEqual(a: Value, b: Value, operator = "<="): boolean {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x <= y;
  return less(a, b, operator) || !less(b, a, operator);
}

function comparePoints(a: string, b: string): number {
  const most = Math.min(a.length, b.length);
  chargeSearch(most);
  for (let i = 0; i < most; i++) {
    if (a[i] !== b[i]) return rank(a.charCodeAt(i)) - rank(b.charCodeAt(i));
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all others. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

/** @throws {TemplateError} the message of the first that is undefined */
export function refuseUndefined(...values: readonly Value[]): void {
  for (const value of values) if (value instanceof Undefined) fail(value.message);
}

/** `item in container`. */
export function contains(container: Value, item: Value): boolean {
  const text = textOf(container);
  if (text !== null) {
    const part = textOf(item);
    if (part === null) {
      refuseUndefined(item);
      return fail(`'in <string>' requires string as left operand, not ${typeName(item)}`);
    }
    chargeSearch(text.length);
    return text.includes(part);
  }
  if (container instanceof Dict) {
    hashOf(item);
    return container.get(item) !== undefined;
  }
  if (container instanceof DictView && container.kind === "keys") hashOf(item);
  for (const other of iterate(container)) {
    step();
    if (equals(other, item)) return true;
  }
  return false;
}

/** What a loop goes through. @throws {TemplateError} where the value cannot be gone through */
export function iterate(value: Value): Iterable<Value> {
  if (Array.isArray(value)) return value;
  const text = textOf(value);
  if (text !== null) {
    chargeText(text.length);
    return text;
  }
  if (value instanceof Tuple) return value.items;
  if (value instanceof Dict) return value.keys();
  if (value instanceof DictView || value instanceof Range || value instanceof Stream) return value;
  if (value instanceof Undefined) return [];
  if (value instanceof Instance && value.type === "LoopContext") {
    throw new UnsupportedError("going through a loop object");
  }
  return fail(`'${typeName(value)}' object is not iterable`);
}

/** Whether a loop can go through a value. */
export function isIterable(value: Value): boolean {
  if (value instanceof Instance) return value.type === "LoopContext";
  try {
    iterate(value);
    return true;
  } catch (error) {
    if (error instanceof TemplateError && error.name === "TemplateError") return false;
    throw error;
  }
}

/** All that a loop would go through, as a list. */
export function listOf(value: Value): readonly Value[] {
  if (Array.isArray(value)) {
    chargeList(value.length);
    return value;
  }
  const items: Value[] = [];
  for (const item of iterate(value)) {
    chargeList(1);
    items.push(item);
  }
  return items;
}

/** `len()`; null where a value has none. */
export function sizeOf(value: Value): number | null {
  const text = textOf(value);
  if (text !== null) {
    chargeSearch(text.length);
    return lengthOf(text);
  }
  if (Array.isArray(value)) return value.length;
  if (value instanceof Tuple) return value.items.length;
  if (value instanceof Dict) return value.size;
  if (value instanceof DictView) return value.dict.size;
  if (value instanceof Range) return value.length;
  if (value instanceof Undefined) return 0;
  if (value instanceof Instance && value.type === "LoopContext") return value.attribute("length") as number;
  return null;
}

export function len(value: Value): number {
  return sizeOf(value) ?? fail(`object of type '${typeName(value)}' has no len()`);
}

/** `sorted()`: stable, by keys. */
export function sorted(items: readonly Value[], key: (item: Value) => Value, reverse: boolean): Value[] {
  chargeList(items.length);
  const keyed = items.map((item) => ({ item, key: key(item) }));
  // Python reverses before and after, so that equal items keep their order
  if (reverse) keyed.reverse();
  keyed.sort((a, b) => {
    step();
    return less(a.key, b.key) ? -1 : less(b.key, a.key) ? 1 : 0;
  });
  if (reverse) keyed.reverse();
  return keyed.map(({ item }) => item);
}
