/** Methods of lists, tuples and dicts that change nothing. */
import { bind, intArgument, type Parameter } from "./arguments.ts";
import { chargeList, step } from "./budget.ts";
import { equals, iterate } from "./compare.ts";
import { fail } from "./errors.ts";
import type { Method } from "./methods.ts";
import { repr } from "./print.ts";
import { Dict, DictView, hashOf, type Tuple, type Value } from "./values.ts";

const itemsOf = (self: Value): readonly Value[] => Array.isArray(self) ? self : (self as Tuple).items;

function method(
  name: string,
  parameters: readonly Parameter[],
  work: (self: Value, ...args: Value[]) => Value,
): [string, Method] {
  return [name, (self, args, keywords) => work(self, ...bind(name, parameters, args, keywords))];
}

const SEQUENCE: readonly [string, Method][] = [
  method("count", [""], (self, wanted) => {
    step(itemsOf(self).length);
    return itemsOf(self).filter((item) => equals(item, wanted!)).length;
  }),
  method("index", ["", ["", 0], ["", Number.MAX_SAFE_INTEGER]], (self, wanted, start, stop) => {
    const items = itemsOf(self);
    step(items.length);
    const bound = (value: Value) => {
      const index = intArgument(value);
      return index < 0 ? Math.max(0, index + items.length) : index;
    };
    const [from, to] = [bound(start!), bound(stop!)];
    const at = items.findIndex((item, i) => i >= from && i < to && equals(item, wanted!));
    return at === -1 ? fail(`${repr(wanted!)} is not in the list`) : at;
  }),
];

export const TUPLE_METHODS: ReadonlyMap<string, Method> = new Map(SEQUENCE);

export const LIST_METHODS: ReadonlyMap<string, Method> = new Map([
  ...SEQUENCE,
  method("copy", [], (self) => {
    chargeList(itemsOf(self).length);
    return [...itemsOf(self)];
  }),
]);

export const DICT_METHODS: ReadonlyMap<string, Method> = new Map([
  method("get", ["", ["", null]], (self, key, otherwise) => {
    hashOf(key!);
    const value = (self as Dict).get(key!);
    return value === undefined ? otherwise! : value;
  }),
  method("keys", [], (self) => new DictView(self as Dict, "keys")),
  method("values", [], (self) => new DictView(self as Dict, "values")),
  method("items", [], (self) => new DictView(self as Dict, "items")),
  method("copy", [], (self) => new Dict((self as Dict).entries())),
  method("fromkeys", ["", ["", null]], (_self, keys, value) => fromKeys(keys!, value!)),
]);

/** `dict.fromkeys(keys, value)`. */
export function fromKeys(keys: Value, value: Value): Dict {
  return new Dict(pairs(keys, value));
}

function* pairs(keys: Value, value: Value): Generator<readonly [Value, Value]> {
  for (const key of iterate(keys)) yield [key, value];
}
