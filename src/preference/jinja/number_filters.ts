/** Filters that make a number. */
import { type Builtin, builtin } from "./_builtin.ts";
import { intArgument, textArgument } from "./arguments.ts";
import { len } from "./compare.ts";
import { fail } from "./errors.ts";
import { readFloat, readInt, roundFloat, roundInt } from "./numbers.ts";
import { OPERATORS } from "./operators.ts";
import { fixed } from "./numbers.ts";
import { Float, int, intOf, numberOf, textOf, truth, typeName, Undefined, type Value } from "./values.ts";

export const NUMBER_FILTERS: readonly [string, Builtin][] = [
  builtin("length", [], len),
  builtin("count", [], len),
  builtin("abs", [], (value) => {
    const whole = intOf(value);
    if (whole !== null) return Math.abs(whole);
    return value instanceof Float
      ? new Float(Math.abs(value.value))
      : fail(`bad operand type for abs(): '${typeName(value)}'`);
  }),
  builtin(
    "int",
    [["default", 0], ["base", 10]],
    (value, otherwise, base) => toInt(value, otherwise!, intArgument(base!)),
  ),
  builtin("float", [["default", new Float(0)]], (value, otherwise) => toFloat(value) ?? otherwise!),
  builtin("round", [["precision", 0], ["method", "common"]], (value, precision, method) => {
    const how = textArgument(method!);
    if (!["common", "ceil", "floor"].includes(how)) fail("method must be common, ceil or floor");
    return how === "common"
      ? round(value, precision!)
      : roundTo(value, precision!, how === "ceil" ? Math.ceil : Math.floor);
  }),
  builtin("filesizeformat", [["binary", false]], (value, binary) => {
    const size = toFloat(value)?.value ?? fail(`could not convert ${typeName(value)} to float`);
    return sizeText(size, truth(binary!));
  }),
];

function toInt(value: Value, otherwise: Value, base: number): Value {
  if (value instanceof Undefined) fail(value.message);
  const text = textOf(value);
  if (text !== null) {
    const whole = readInt(text, base);
    if (whole !== null) return int(whole);
    const float = readFloat(text);
    return float === null || !Number.isFinite(float) ? otherwise : int(Math.trunc(float));
  }
  const number = numberOf(value);
  if (number === null || Number.isNaN(number)) return otherwise;
  if (!Number.isFinite(number)) fail("cannot convert float infinity to integer");
  return int(Math.trunc(number));
}

function toFloat(value: Value): Float | null {
  if (value instanceof Undefined) fail(value.message);
  const text = textOf(value);
  const number = text === null ? numberOf(value) : readFloat(text);
  return number === null ? null : new Float(number);
}

function round(value: Value, precision: Value): Value {
  const digits = precision === null ? null : intArgument(precision);
  const whole = intOf(value);
  if (whole !== null) return digits === null || digits >= 0 ? whole : int(roundInt(whole, digits));
  if (!(value instanceof Float)) {
    return fail(
      value instanceof Undefined ? value.message : `type ${typeName(value)} doesn't define __round__ method`,
    );
  }
  const rounded = roundFloat(value.value, digits ?? 0);
  return digits === null ? int(rounded) : new Float(rounded);
}

function roundTo(value: Value, precision: Value, rounding: (value: number) => number): Value {
  const scale = OPERATORS["**"](10, precision);
  const scaled = numberOf(OPERATORS["*"](value, scale)) ??
    fail(`must be real number, not ${typeName(value)}`);
  return OPERATORS["/"](int(rounding(scaled)), scale);
}

function sizeText(size: number, binary: boolean): string {
  const base = binary ? 1024 : 1000;
  if (size === 1) return "1 Byte";
  if (size < base) return `${Math.trunc(size)} Bytes`;
  const names = [..."kMGTPEZY"].map((letter) => binary ? `${letter.toUpperCase()}iB` : `${letter}B`);
  let unit = base;
  for (const name of names) {
    unit *= base;
    if (size < unit) return `${fixed(base * size / unit, 1)} ${name}`;
  }
  return `${fixed(base * size / unit, 1)} ${names.at(-1)}`;
}
