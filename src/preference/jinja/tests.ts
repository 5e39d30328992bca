/** What may stand behind `is`. */
import { type Builtin, builtin } from "./_builtin.ts";
import { contains, equals, isIterable, less, lessOrEqual, sizeOf } from "./compare.ts";
import { OPERATORS } from "./operators.ts";
import { str } from "./print.ts";
import { isLower, isUpper } from "./casing.ts";
import {
  Callable,
  Dict,
  DictView,
  Float,
  Instance,
  Markup,
  numberOf,
  textOf,
  Undefined,
  type Value,
} from "./values.ts";

const test = builtin<Value, boolean>;

function named(
  names: readonly string[],
  work: (a: Value, b: Value) => boolean,
): [string, Builtin<boolean>][] {
  return names.map((name) => test(name, [""], (a, b) => work(a, b!)));
}

const remainder = (value: Value, by: Value): Value => OPERATORS["%"](value, by);

export const TESTS: ReadonlyMap<string, Builtin<boolean>> = new Map([
  test("odd", [], (value) => equals(remainder(value, 2), 1)),
  test("even", [], (value) => equals(remainder(value, 2), 0)),
  test("divisibleby", ["num"], (value, by) => equals(remainder(value, by!), 0)),
  test("defined", [], (value) => !(value instanceof Undefined)),
  test("undefined", [], (value) => value instanceof Undefined),
  test("none", [], (value) => value === null),
  test("boolean", [], (value) => typeof value === "boolean"),
  test("true", [], (value) => value === true),
  test("false", [], (value) => value === false),
  test("integer", [], (value) => typeof value === "number"),
  test("float", [], (value) => value instanceof Float),
  test("number", [], (value) => numberOf(value) !== null),
  test("string", [], (value) => textOf(value) !== null),
  test("mapping", [], (value) => value instanceof Dict),
  test(
    "sequence",
    [],
    (value) => sizeOf(value) !== null && !(value instanceof DictView) && !(value instanceof Instance),
  ),
  test("iterable", [], isIterable),
  test("callable", [], (value) =>
    value instanceof Callable || value instanceof Undefined ||
    value instanceof Instance && value.attribute("__call__") !== undefined),
  test("escaped", [], (value) => value instanceof Markup),
  test("lower", [], (value) => isLower(str(value))),
  test("upper", [], (value) => isUpper(str(value))),
  test("sameas", ["other"], (value, other) => value === other),
  test("in", ["seq"], (value, container) => contains(container!, value)),
  ...named(["==", "eq", "equalto"], equals),
  ...named(["!=", "ne"], (a, b) => !equals(a, b)),
  ...named(["<", "lt", "lessthan"], (a, b) => less(a, b)),
  ...named(["<=", "le"], (a, b) => lessOrEqual(a, b)),
  ...named([">", "gt", "greaterthan"], (a, b) => less(b, a, ">")),
  ...named([">=", "ge"], (a, b) => lessOrEqual(b, a, ">=")),
]);
