/** What every template has beside its variables. */
import { bind, intArgument, textArgument } from "./arguments.ts";
import { chargeList, step } from "./budget.ts";
import { iterate } from "./compare.ts";
import { fromKeys } from "./container_methods.ts";
import { fail, TemplateError, UnsupportedError } from "./errors.ts";
import { Cycler, Joiner, Namespace } from "./instances.ts";
import { str } from "./print.ts";
import { strftime } from "./strftime.ts";
import { Callable, Dict, type Keywords, Range, type Value } from "./values.ts";

/** Most entries of a range in the sandbox. */
const MOST_IN_RANGE = 100_000;

/**
 * Jinja2's globals and transformers'.
 *
 * @param now what `strftime_now` writes, by its UTC fields
 */
export function globals(now: Date): ReadonlyMap<string, Value> {
  const all: [string, Callable["call"], ReadonlyMap<string, Value>?][] = [
    [
      "range",
      (args, keywords) => keywords.size > 0 ? fail("range() takes no keyword arguments") : range(args),
    ],
    ["namespace", (args, keywords) => {
      const namespace = new Namespace();
      for (const [name, value] of dict(args, keywords).entries()) namespace.set(textArgument(name), value);
      return namespace;
    }],
    [
      "dict",
      dict,
      new Map([
        [
          "fromkeys",
          new Callable("dict.fromkeys", (args, keywords) => {
            const [keys, value] = bind("fromkeys", ["", ["", null]], args, keywords);
            return fromKeys(keys!, value!);
          }),
        ],
      ]),
    ],
    [
      "cycler",
      (args, keywords) => keywords.size > 0 ? fail("cycler() takes no keyword arguments") : new Cycler(args),
    ],
    ["joiner", (args, keywords) => new Joiner(bind("joiner", [["sep", ", "]], args, keywords)[0]!)],
    ["lipsum", () => {
      throw new UnsupportedError("lipsum()");
    }],
    ["raise_exception", (args, keywords) => {
      throw new TemplateError(str(bind("raise_exception", ["message"], args, keywords)[0]!));
    }],
    [
      "strftime_now",
      (args, keywords) => strftime(now, textArgument(bind("strftime_now", ["format"], args, keywords)[0]!)),
    ],
  ];
  return new Map(
    all.map(([name, call, attributes]) => [name, new Callable(`the function ${name}`, call, attributes)]),
  );
}

function range(args: readonly Value[]): Range {
  const [first, second, third = 1] = args.map(intArgument);
  if (first === undefined || args.length > 3) fail(`range expected 1 to 3 arguments, got ${args.length}`);
  if (third === 0) fail("range() arg 3 must not be zero");
  const made = second === undefined ? new Range(0, first!, 1) : new Range(first!, second, third);
  if (made.length > MOST_IN_RANGE) {
    fail(`Range too big. The sandbox blocks ranges larger than ${MOST_IN_RANGE}.`);
  }
  return made;
}

function dict(args: readonly Value[], keywords: Keywords): Dict {
  const [from] = bind("dict", [["", new Dict()]], args, new Map());
  return new Dict([...pairsOf(from!), ...keywords]);
}

function* pairsOf(value: Value): Generator<readonly [Value, Value]> {
  if (value instanceof Dict) return yield* value.entries();
  for (const pair of iterate(value)) {
    step();
    chargeList(2);
    const [key, entry, ...more] = [...iterate(pair)];
    if (key === undefined || entry === undefined || more.length > 0) fail("dict() wants pairs");
    yield [key!, entry!];
  }
}
