/** Methods of lists, tuples and dicts that change nothing. */
import { type Builtin, builtin } from "./_builtin.ts";
import { intArgument } from "./arguments.ts";
import { chargeList, step } from "./budget.ts";
import { equals, iterate } from "./compare.ts";
import { fail } from "./errors.ts";
import { repr } from "./print.ts";
import { Dict, DictView, hashOf, Tuple, type Value } from "./values.ts";

type Sequence = readonly Value[] | Tuple;

const itemsOf = (self: Sequence): readonly Value[] => self instanceof Tuple ? self.items : self;

const method = builtin<Sequence>;
const dictMethod = builtin<Dict>;

const SEQUENCE: readonly [string, Builtin][] = [
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

export const TUPLE_METHODS: ReadonlyMap<string, Builtin> = new Map(SEQUENCE);

export const LIST_METHODS: ReadonlyMap<string, Builtin> = new Map([
  ...SEQUENCE,
  method("copy", [], (self) => {
    chargeList(itemsOf(self).length);
    return [...itemsOf(self)];
  }),
]);

export const DICT_METHODS: ReadonlyMap<string, Builtin> = new Map([
  dictMethod("get", ["", ["", null]], (self, key, otherwise) => {
    hashOf(key!);
    const value = self.get(key!);
    return value === undefined ? otherwise! : value;
  }),
  dictMethod("keys", [], (self) => new DictView(self, "keys")),
  dictMethod("values", [], (self) => new DictView(self, "values")),
  dictMethod("items", [], (self) => new DictView(self, "items")),
  dictMethod("copy", [], (self) => new Dict(self.entries())),
  dictMethod("fromkeys", ["", ["", null]], (_self, keys, value) => fromKeys(keys!, value!)),
]);

/** `dict.fromkeys(keys, value)`. */
export function fromKeys(keys: Value, value: Value): Dict {
  return new Dict(pairs(keys, value));
}

function* pairs(keys: Value, value: Value): Generator<readonly [Value, Value]> {
  for (const key of iterate(keys)) yield [key, value];
}
