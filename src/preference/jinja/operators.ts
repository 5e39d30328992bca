/** Python's arithmetic, on numbers, texts and lists. */
import { chargeList, chargeText } from "./budget.ts";
import { refuseUndefined } from "./compare.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { escapeHtml } from "./html.ts";
import { percentFormat } from "./percent_format.ts";
import {
  DictView,
  Float,
  int,
  intOf,
  Markup,
  numberOf,
  textOf,
  Tuple,
  typeName,
  type Value,
} from "./values.ts";

export type Operator = "+" | "-" | "*" | "/" | "//" | "%" | "**";

export const OPERATORS: Readonly<Record<Operator, (a: Value, b: Value) => Value>> = {
  "+": add,
  "-": (a, b) => arithmetic("-", a, b, (x, y) => int(x - y), (x, y) => x - y),
  "*": multiply,
  "/": divide,
  "//": (a, b) => arithmetic("//", a, b, (x, y) => int((x - modulo(x, y)) / y), floorDivide),
  "%": (a, b) => {
    const format = textOf(a);
    if (format === null) return arithmetic("%", a, b, modulo, floatModulo);
    if (a instanceof Markup) throw new UnsupportedError("% on escaped text");
    return percentFormat(format, b);
  },
  "**": power,
};

function refuse(operator: string, a: Value, b: Value): never {
  if (operator === "-" && [a, b].some((side) => side instanceof DictView)) {
    throw new UnsupportedError("a difference of what a dict's keys() or items() give");
  }
  refuseUndefined(a, b);
  return fail(`unsupported operand type(s) for ${operator}: '${typeName(a)}' and '${typeName(b)}'`);
}

/** @param ints what is made of two ints; @param floats what is made where one is a float */
function arithmetic(
  operator: string,
  a: Value,
  b: Value,
  ints: (x: number, y: number) => number,
  floats: (x: number, y: number) => number,
): Value {
  const [x, y] = [intOf(a), intOf(b)];
  if (x !== null && y !== null) return ints(x, y);
  const [f, g] = [numberOf(a), numberOf(b)];
  if (f === null || g === null) return refuse(operator, a, b);
  return new Float(floats(f, g));
}

export function add(a: Value, b: Value): Value {
  if (typeof a === "string" && typeof b === "string") {
    chargeText(a.length + b.length);
    return a + b;
  }
  if (Array.isArray(a) && Array.isArray(b)) {
    chargeList(a.length + b.length);
    return [...a, ...b];
  }
  if (a instanceof Tuple && b instanceof Tuple) {
    chargeList(a.items.length + b.items.length);
    return new Tuple([...a.items, ...b.items]);
  }
  const [s, t] = [textOf(a), textOf(b)];
  if (s !== null && t !== null) {
    const [left, right] = [a instanceof Markup ? s : escapeHtml(s), b instanceof Markup ? t : escapeHtml(t)];
    chargeText(left.length + right.length);
    return new Markup(left + right);
  }
  return arithmetic("+", a, b, (x, y) => int(x + y), (x, y) => x + y);
}

function multiply(a: Value, b: Value): Value {
  const [m, n] = [intOf(a), intOf(b)];
  if (n !== null && !(a instanceof Float) && m === null) return repeat(a, b, n);
  if (m !== null && !(b instanceof Float) && n === null) return repeat(b, a, m);
  return arithmetic("*", a, b, (x, y) => int(x * y), (x, y) => x * y);
}

function repeat(value: Value, other: Value, count: number): Value {
  const times = Math.max(0, count);
  const text = textOf(value);
  if (text !== null) {
    chargeText(text.length * times);
    const repeated = text === "" ? "" : text.repeat(times);
    return value instanceof Markup ? new Markup(repeated) : repeated;
  }
  const items = Array.isArray(value) ? value : value instanceof Tuple ? value.items : null;
  if (items === null) return refuse("*", value, other);
  chargeList(items.length * times);
  const repeated = Array.from({ length: items.length * times }, (_, i) => items[i % items.length]!);
  return value instanceof Tuple ? new Tuple(repeated) : repeated;
}

function divide(a: Value, b: Value): Value {
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x === null || y === null) return refuse("/", a, b);
  if (y === 0) return fail("division by zero");
  return new Float(x / y);
}

/** The remainder with the divisor's sign. */
function modulo(x: number, y: number): number {
  if (y === 0) fail("integer division or modulo by zero");
  const rest = x % y;
  return (rest !== 0 && rest < 0 !== y < 0 ? rest + y : rest) + 0;
}

function floatModulo(x: number, y: number): number {
  if (y === 0) fail("float modulo");
  const rest = x % y;
  if (rest === 0) return y < 0 ? -0 : 0;
  return rest < 0 !== y < 0 ? rest + y : rest;
}

function floorDivide(x: number, y: number): number {
  if (y === 0) fail("float floor division by zero");
  let rest = x % y;
  let quotient = (x - rest) / y;
  if (rest !== 0 && rest < 0 !== y < 0) {
    rest += y;
    quotient -= 1;
  }
  if (quotient === 0) return x / y < 0 || Object.is(x / y, -0) ? -0 : 0;
  const floor = Math.floor(quotient);
  return quotient - floor > 0.5 ? floor + 1 : floor;
}

function power(a: Value, b: Value): Value {
  const [x, y] = [intOf(a), intOf(b)];
  if (x !== null && y !== null && y >= 0) {
    if (Math.abs(x) > 1 && y > 53) throw new UnsupportedError("an integer past 2^53");
    return int(Number(BigInt(x) ** BigInt(Math.abs(x) > 1 ? y : y % 2 + (y > 0 ? 2 : 0))));
  }
  const [f, g] = [numberOf(a), numberOf(b)];
  if (f === null || g === null) return refuse("** or pow()", a, b);
  if (f === 0 && g < 0) return fail("0.0 cannot be raised to a negative power");
  if (f < 0 && !Number.isInteger(g)) throw new UnsupportedError("a complex number");
  const result = f === 1 || f === -1 && !Number.isFinite(g) ? 1 : f ** g;
  if (!Number.isFinite(result) && Number.isFinite(f) && Number.isFinite(g)) {
    return fail("Numerical result out of range");
  }
  return new Float(result);
}

/** `-x` and `+x`. */
export function signed(sign: "-" | "+", value: Value): Value {
  const whole = intOf(value);
  if (whole !== null) return sign === "-" ? int(-whole) : whole;
  if (value instanceof Float) return sign === "-" ? new Float(-value.value) : value;
  refuseUndefined(value);
  return fail(`bad operand type for unary ${sign}: '${typeName(value)}'`);
}
