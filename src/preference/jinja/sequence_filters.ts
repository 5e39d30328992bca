/** Filters of lists and dicts. Those that Python makes generators of are gone through once, when they are asked. */
import { getterOf, ownAttribute } from "./access.ts";
import { type Builtin, builtin } from "./_builtin.ts";
import { intArgument, textArgument } from "./arguments.ts";
import { chargeList, step } from "./budget.ts";
import { equals, iterate, less, listOf, sizeOf, sorted } from "./compare.ts";
import { fail } from "./errors.ts";
import { FILTERS } from "./filters.ts";
import { add } from "./operators.ts";
import { lower } from "./casing.ts";
import { TESTS } from "./tests.ts";
import { pointsOf } from "./text.ts";
import {
  Dict,
  DictView,
  hashOf,
  type Keywords,
  Markup,
  Range,
  Stream,
  textOf,
  truth,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

const ignoreCase = (value: Value): Value => {
  const text = textOf(value);
  return text === null ? value : lower(text);
};

/** What items are compared by. */
function keyOf(attribute: Value, caseSensitive: Value, otherwise: Value = null): (item: Value) => Value {
  const get = getterOf(attribute, otherwise);
  return truth(caseSensitive) ? get : (item) => ignoreCase(get(item));
}

const generator = (values: Generator<Value>): Stream => new Stream("generator", values);

export const SEQUENCE_FILTERS: readonly [string, Builtin][] = [
  builtin("list", [], (value) => [...listOf(value)]),
  builtin("first", [], (value) => {
    for (const item of iterate(value)) return item;
    return new Undefined("No first item, sequence was empty.");
  }),
  builtin("last", [], (value) => {
    for (const item of reversed(value) ?? fail(`'${typeName(value)}' object is not reversible`)) {
      return value instanceof Markup ? new Markup(item as string) : item; // Python indexes what it goes back through
    }
    return new Undefined("No last item, sequence was empty.");
  }),
  builtin("reverse", [], (value) => {
    const text = textOf(value);
    if (text !== null) {
      const back = pointsOf(text).reverse().join("");
      return value instanceof Markup ? new Markup(back) : back;
    }
    return new Stream(`${typeName(value)}_reverseiterator`, reversed(value) ?? [...listOf(value)].reverse());
  }),
  builtin("items", [], (value) => generator(itemsOf(value))),
  builtin("attr", ["name"], (value, name) => {
    const own = ownAttribute(value, textArgument(name!));
    return own ?? new Undefined(`'${typeName(value)} object' has no attribute '${textArgument(name!)}'`);
  }),
  ...(["default", "d"] as const).map((name) =>
    builtin(
      name,
      [["default_value", ""], ["boolean", false]],
      (value, otherwise, boolean) =>
        value instanceof Undefined || truth(boolean!) && !truth(value) ? otherwise! : value,
    )
  ),
  builtin(
    "sort",
    [["reverse", false], ["case_sensitive", false], ["attribute", null]],
    (value, reverse, caseSensitive, attribute) => {
      const text = attribute === null ? null : textOf(attribute!);
      const keys = (text === null ? [attribute!] : text.split(",")).map((path) =>
        keyOf(path, caseSensitive!)
      );
      return sorted(listOf(value), (item) => keys.map((key) => key(item)), truth(reverse!));
    },
  ),
  builtin(
    "dictsort",
    [["case_sensitive", false], ["by", "key"], ["reverse", false]],
    (value, caseSensitive, by, reverse) => {
      const place = ["key", "value"].indexOf(textArgument(by!));
      if (place === -1) fail('You can only sort by either "key" or "value"');
      if (!(value instanceof Dict)) return fail(`'${typeName(value)}' object has no attribute 'items'`);
      const pairs = Array.from(value.entries(), (entry) => new Tuple(entry));
      const key = (pair: Value) => (pair as Tuple).items[place]!;
      return sorted(pairs, truth(caseSensitive!) ? key : (pair) => ignoreCase(key(pair)), truth(reverse!));
    },
  ),
  builtin(
    "unique",
    [["case_sensitive", false], ["attribute", null]],
    (value, caseSensitive, attribute) => generator(unique(value, keyOf(attribute!, caseSensitive!))),
  ),
  ...(["min", "max"] as const).map((name) =>
    builtin(
      name,
      [["case_sensitive", false], ["attribute", null]],
      (value, caseSensitive, attribute) => extreme(value, keyOf(attribute!, caseSensitive!), name === "min"),
    )
  ),
  builtin("sum", [["attribute", null], ["start", 0]], (value, attribute, start = 0) => {
    if (textOf(start) !== null) fail("sum() can't sum strings [use ''.join(seq) instead]");
    const get = getterOf(attribute!);
    let sum: Value = start;
    for (const item of iterate(value)) sum = add(sum, get(item));
    return sum;
  }),
  builtin(
    "batch",
    ["linecount", ["fill_with", null]],
    (value, size, fill) => generator(batch(value, size!, fill!)),
  ),
  builtin(
    "slice",
    ["slices", ["fill_with", null]],
    (value, count, fill) => generator(slices(value, intArgument(count!), fill!)),
  ),
  builtin(
    "groupby",
    ["attribute", ["default", null], ["case_sensitive", false]],
    (value, attribute, otherwise, caseSensitive) => groupBy(value, attribute!, otherwise!, caseSensitive!),
  ),
  ["map", (value, args, keywords) => generator(map(value, args, keywords))],
  ["select", (value, args, keywords) => generator(select(value, args, keywords, false, true))],
  ["reject", (value, args, keywords) => generator(select(value, args, keywords, false, false))],
  ["selectattr", (value, args, keywords) => generator(select(value, args, keywords, true, true))],
  ["rejectattr", (value, args, keywords) => generator(select(value, args, keywords, true, false))],
];

/** `reversed(value)`; null where Python has none. */
function reversed(value: Value): Iterable<Value> | null {
  if (value instanceof Stream || sizeOf(value) === null) return null;
  const text = textOf(value);
  if (text !== null) return pointsOf(text).reverse();
  if (value instanceof Range) {
    return new Range(value.at(value.length - 1), value.start - value.step, -value.step);
  }
  if (
    !Array.isArray(value) && !(value instanceof Tuple) && !(value instanceof Dict) &&
    !(value instanceof DictView)
  ) {
    return value instanceof Undefined ? [] : null;
  }
  chargeList(sizeOf(value)!);
  return [...iterate(value)].reverse();
}

function* itemsOf(value: Value): Generator<Value> {
  if (value instanceof Undefined) return;
  if (!(value instanceof Dict)) fail("Can only get item pairs from a mapping.");
  yield* new DictView(value as Dict, "items");
}

function* unique(value: Value, key: (item: Value) => Value): Generator<Value> {
  const seen = new Set<unknown>();
  for (const item of iterate(value)) {
    const hash = hashOf(key(item));
    if (seen.has(hash)) continue;
    chargeList(1);
    seen.add(hash);
    yield item;
  }
}

function extreme(value: Value, key: (item: Value) => Value, smallest: boolean): Value {
  let best: { readonly item: Value; readonly key: Value } | null = null;
  for (const item of iterate(value)) {
    const own = key(item);
    if (best === null || (smallest ? less(own, best.key) : less(best.key, own, ">"))) {
      best = { item, key: own };
    }
  }
  return best === null ? new Undefined("No aggregated item, sequence was empty.") : best.item;
}

function* batch(value: Value, size: Value, fill: Value): Generator<Value> {
  let items: Value[] = [];
  for (const item of iterate(value)) {
    if (equals(items.length, size)) {
      yield items;
      items = [];
    }
    chargeList(1);
    items.push(item);
  }
  if (items.length === 0) return;
  if (fill !== null && less(items.length, size)) {
    const missing = intArgument(size) - items.length;
    chargeList(missing);
    items.push(...new Array<Value>(missing).fill(fill));
  }
  yield items;
}

function* slices(value: Value, count: number, fill: Value): Generator<Value> {
  const items = listOf(value);
  if (count === 0) fail("integer division or modulo by zero");
  const size = Math.floor(items.length / count);
  const longer = items.length - size * count;
  let at = 0;
  for (let i = 0; i < count; i++) {
    step();
    const end = at + size + Number(i < longer);
    const part = items.slice(at, end);
    chargeList(part.length + 1);
    if (fill !== null && i >= longer) part.push(fill);
    yield part;
    at = end;
  }
}

function groupBy(value: Value, attribute: Value, otherwise: Value, caseSensitive: Value): Value {
  const key = keyOf(attribute, caseSensitive, otherwise);
  const groups: { readonly key: Value; readonly items: Value[] }[] = [];
  for (const item of sorted(listOf(value), key, false)) {
    const own = key(item);
    const group = groups.at(-1);
    if (group && equals(group.key, own)) group.items.push(item);
    else groups.push({ key: own, items: [item] });
    chargeList(1);
  }
  const shown = getterOf(attribute, otherwise);
  return groups.map(({ key, items }) =>
    new Tuple([truth(caseSensitive) ? key : shown(items[0]!), items], ["grouper", "list"])
  );
}

function* map(value: Value, args: readonly Value[], keywords: Keywords): Generator<Value> {
  if (!truth(value)) return;
  const work = mapping(args, keywords);
  for (const item of iterate(value)) yield work(item);
}

function mapping(args: readonly Value[], keywords: Keywords): (item: Value) => Value {
  if (args.length === 0 && keywords.has("attribute")) {
    for (const name of keywords.keys()) {
      if (name !== "attribute" && name !== "default") fail(`Unexpected keyword argument '${name}'`);
    }
    return getterOf(keywords.get("attribute")!, keywords.get("default") ?? null);
  }
  const [name, ...rest] = args;
  if (name === undefined) fail("map requires a filter argument");
  const work = FILTERS.get(textArgument(name!)) ?? fail(`No filter named '${textArgument(name!)}'.`);
  return (item) => {
    step();
    return work(item, rest, keywords);
  };
}

function* select(
  value: Value,
  args: readonly Value[],
  keywords: Keywords,
  byAttribute: boolean,
  wanted: boolean,
): Generator<Value> {
  if (!truth(value)) return;
  if (byAttribute && args.length === 0) fail("Missing parameter for attribute name");
  const get = byAttribute ? getterOf(args[0]!) : (item: Value) => item;
  const [name, ...rest] = byAttribute ? args.slice(1) : args;
  const test = name === undefined
    ? null
    : TESTS.get(textArgument(name)) ?? fail(`No test named '${textArgument(name)}'.`);
  for (const item of iterate(value)) {
    step();
    const own = get(item);
    if ((test === null ? truth(own) : test(own, rest, keywords)) === wanted) yield item;
  }
}
