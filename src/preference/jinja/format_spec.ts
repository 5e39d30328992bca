/** Python's `format(value, spec)`, which `str.format` uses, and the padding that `%` shares with it. */
import { chargeText } from "./budget.ts";
import { fail, UnsupportedError } from "./errors.ts";
import { checkDigits, exponentText, fixed, general, scientific } from "./numbers.ts";
import { floatText, str } from "./print.ts";
import { lengthOf, slicePoints } from "./text.ts";
import { Float, intOf, textOf, typeName, Undefined, type Value } from "./values.ts";

interface Spec {
  readonly fill: string;
  readonly align: "" | "<" | ">" | "^" | "=";
  readonly sign: string;
  readonly alternate: boolean;
  readonly width: number;
  readonly grouping: string;
  readonly precision: number | null;
  readonly type: string;
}

const SPEC = /^(?:([^])?([<>=^]))?([-+ ])?(z)?(#)?(0)?(\d+)?([_,])?(?:\.(\d+))?([a-zA-Z%])?$/u;

function parseSpec(text: string): Spec {
  const parts = SPEC.exec(text) ?? fail("Invalid format specifier");
  const [, fill, align, sign, z, alternate, zero, width, grouping, precision, type] = parts;
  if (z) fail("Invalid format specifier");
  return {
    fill: fill ?? (zero && !fill ? "0" : " "),
    align: (align ?? (zero ? "=" : "")) as Spec["align"],
    sign: sign ?? "",
    alternate: alternate !== undefined,
    width: Number(width ?? 0),
    grouping: grouping ?? "",
    precision: precision === undefined ? null : Number(precision),
    type: type ?? "",
  };
}

/** A value as a spec writes it. @throws {TemplateError} where the spec is not one for such values */
export function format(value: Value, spec: string): string {
  const text = textOf(value);
  const number = intOf(value);
  if (text !== null) return formatText(text, parseSpec(spec));
  if (spec === "") return str(value);
  if (number !== null) return formatInt(number, parseSpec(spec));
  if (value instanceof Float) return formatFloat(value.value, parseSpec(spec));
  if (value instanceof Undefined) return fail("unsupported format string passed to Undefined.__format__");
  return fail(`unsupported format string passed to ${typeName(value)}.__format__`);
}

/** A text with a fill on a side of it, up to a width. */
export function pad(text: string, width: number, fill: string, align: "<" | ">" | "^"): string {
  const missing = width - lengthOf(text);
  if (missing <= 0) return text;
  chargeText(missing * fill.length + text.length);
  const left = align === "<" ? 0 : align === ">" ? missing : Math.floor(missing / 2);
  return fill.repeat(left) + text + fill.repeat(missing - left);
}

function formatText(
  text: string,
  { fill, align, sign, alternate, width, grouping, precision, type }: Spec,
): string {
  if (type !== "" && type !== "s") fail(`Unknown format code '${type}' for object of type 'str'`);
  if (sign !== "") fail("Sign not allowed in string format specifier");
  if (alternate) fail("Alternate form (#) not allowed in string format specifier");
  if (align === "=" && fill !== "0") fail("'=' alignment not allowed in string format specifier");
  if (grouping !== "") fail(`Cannot specify '${grouping}' with 's'.`);
  const cut = precision === null ? text : slicePoints(text, 0, Math.min(precision, lengthOf(text)));
  return pad(cut, width, fill, align === "" || align === "=" ? "<" : align);
}

/** A sign, a prefix and digits as the spec arranges them. */
function arrange(negative: boolean, prefix: string, digits: string, spec: Spec, group = 3): string {
  const sign = negative ? "-" : spec.sign === "+" || spec.sign === " " ? spec.sign : "";
  const [, whole = "", rest = ""] = /^([0-9a-zA-Z]*)(.*)$/s.exec(digits)!;
  const zeros = spec.align === "=" && spec.fill === "0"
    ? spec.width - sign.length - prefix.length - rest.length
    : 0;
  chargeText(Math.max(0, zeros));
  let grouped = whole;
  if (spec.grouping !== "") {
    const insert = (text: string) => text.replace(new RegExp(`\\B(?=(?:.{${group}})+$)`, "g"), spec.grouping);
    grouped = insert(whole);
    // zeros that fill the width are grouped too
    for (let length = whole.length; grouped.length < zeros; length++) {
      grouped = insert(whole.padStart(length + 1, "0"));
    }
  } else if (zeros > 0) grouped = whole.padStart(zeros, "0");
  const text = sign + prefix + grouped + rest;
  if (spec.align !== "=") return pad(text, spec.width, spec.fill, spec.align === "" ? ">" : spec.align);
  if (spec.fill === "0") return text;
  return sign + prefix + pad(grouped + rest, spec.width - sign.length - prefix.length, spec.fill, ">");
}

const BASES: Readonly<Record<string, number>> = { b: 2, o: 8, x: 16, X: 16 };

function formatInt(value: number, spec: Spec): string {
  const { type, precision, grouping } = spec;
  if (type !== "" && "eEfFgG%".includes(type)) return formatFloat(value, spec);
  if (precision !== null) fail("Precision not allowed in integer format specifier");
  if (type === "c") {
    if (spec.sign !== "") fail("Sign not allowed with integer format specifier 'c'");
    if (value < 0 || value > 0x10ffff) fail("%c arg not in range(0x110000)");
    return pad(
      String.fromCodePoint(value),
      spec.width,
      spec.fill,
      spec.align === "" || spec.align === "=" ? ">" : spec.align,
    );
  }
  const base = type === "" || type === "d" || type === "n" ? 10 : BASES[type] ?? unknown(type, "int");
  if (base !== 10 && grouping === ",") fail(`Cannot specify ',' with '${type}'.`);
  if (type === "n" && grouping !== "") fail("Cannot specify ',' with 'n'.");
  const digits = Math.abs(value).toString(base);
  const prefix = spec.alternate && base !== 10 ? `0${type}` : "";
  return arrange(value < 0, prefix, type === "X" ? digits.toUpperCase() : digits, spec, base === 10 ? 3 : 4);
}

function unknown(type: string, of: string): never {
  return fail(`Unknown format code '${type}' for object of type '${of}'`);
}

function formatFloat(value: number, spec: Spec): string {
  const { type, precision, alternate } = spec;
  const negative = value < 0 || Object.is(value, -0);
  const size = Math.abs(value);
  if (type === "n" && spec.grouping !== "") fail("Cannot specify ',' with 'n'.");
  if (!Number.isFinite(value)) {
    const name = Number.isNaN(value) ? "nan" : "inf";
    const text = (type !== "" && "EFG".includes(type) ? name.toUpperCase() : name) +
      (type === "%" ? "%" : "");
    return arrange(negative && !Number.isNaN(value), "", text, { ...spec, grouping: "" });
  }
  let digits: string;
  switch (type) {
    case "":
      digits = precision === null ? floatText(size) : general(size, precision, alternate, true);
      break;
    case "%":
      digits = `${floatDigits(size * 100, "f", precision, alternate)}%`;
      break;
    case "n":
      digits = floatDigits(size, "g", precision, alternate);
      break;
    default:
      if (!"eEfFgG".includes(type)) unknown(type, "float");
      digits = floatDigits(size, type, precision, alternate);
  }
  return arrange(negative, "", digits, spec);
}

/** A finite float >= 0 as `e`, `f` and `g` write it. */
export function floatDigits(
  value: number,
  type: string,
  precision: number | null,
  alternate: boolean,
): string {
  const digits = precision ?? 6;
  checkDigits(digits);
  const point = alternate && digits === 0 ? "." : "";
  switch (type) {
    case "f":
    case "F":
      return fixed(value, digits) + point;
    case "e":
    case "E": {
      const { mantissa, exponent } = scientific(value, digits);
      const text = mantissa + point + exponentText(exponent);
      return type === "E" ? text.toUpperCase() : text;
    }
  }
  if (alternate) throw new UnsupportedError("the flag # with g");
  const text = general(value, digits, false);
  return type === "G" ? text.toUpperCase() : text;
}
