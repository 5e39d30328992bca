/** `format % values`, as Python has it from C. */
import { chargeText } from "./budget.ts";
import { fail } from "./errors.ts";
import { floatDigits, pad } from "./format_spec.ts";
import { repr, str } from "./print.ts";
import { lengthOf, slicePoints } from "./text.ts";
import {
  Dict,
  Float,
  int,
  intOf,
  numberOf,
  Range,
  textOf,
  Tuple,
  typeName,
  Undefined,
  type Value,
} from "./values.ts";

const PLACE = /%(?:\(([^()]*)\))?([-+ #0]*)(\*|\d*)(?:\.(\*|\d*))?[hlL]?([^]?)/gu;

/** @throws {TemplateError} where values are missing, left over or of another type than the format asks for */
export function percentFormat(format: string, values: Value): string {
  const list = values instanceof Tuple ? values.items : [values];
  let used = 0;
  const next = (): Value =>
    used < list.length ? list[used++]! : fail("not enough arguments for format string");
  const star = (): number => intOf(next()) ?? fail("* wants int");

  let text = "";
  let last = 0;
  const write = (part: string) => {
    chargeText(part.length);
    text += part;
  };
  for (const place of format.matchAll(PLACE)) {
    write(format.slice(last, place.index));
    last = place.index + place[0].length;
    const [, key, flags = "", widthText, precisionText, type = ""] = place;
    if (type === "") fail("incomplete format");
    if (type === "%") {
      write("%");
      continue;
    }
    let value: Value | undefined;
    if (key !== undefined) {
      if (!(values instanceof Dict)) fail("format requires a mapping");
      value = (values as Dict).get(key);
      if (value === undefined) fail(`'${key}'`);
      used = list.length;
    }
    let width = widthText === "*" ? star() : Number(widthText ?? 0);
    const precision = precisionText === undefined
      ? null
      : precisionText === "*"
      ? star()
      : Number(precisionText);
    const left = flags.includes("-") || width < 0;
    width = Math.abs(width);
    write(
      convert(value === undefined ? next() : value, {
        flags,
        width,
        precision: precision === null ? null : Math.max(0, precision),
        type,
        left,
      }),
    );
  }
  write(format.slice(last));
  if (used < list.length && !isMapping(values)) fail("not all arguments converted during string formatting");
  return text;
}

/** What has subscripts and is no tuple or text may be left over. */
function isMapping(values: Value): boolean {
  return Array.isArray(values) || values instanceof Dict || values instanceof Range ||
    values instanceof Undefined;
}

interface Place {
  readonly flags: string;
  readonly width: number;
  readonly precision: number | null;
  readonly type: string;
  readonly left: boolean;
}

function convert(value: Value, { flags, width, precision, type, left }: Place): string {
  const padded = (text: string) => pad(text, width, " ", left ? "<" : ">");
  switch (type) {
    case "s":
    case "r":
    case "a": {
      const text = type === "s" ? str(value) : type === "r" ? repr(value) : ascii(repr(value));
      return padded(precision === null ? text : slicePoints(text, 0, Math.min(precision, lengthOf(text))));
    }
    case "c": {
      const code = intOf(value);
      const text = textOf(value);
      if (code === null && (text === null || lengthOf(text) !== 1)) fail("%c requires int or char");
      if (code !== null && (code < 0 || code > 0x10ffff)) fail("%c arg not in range(0x110000)");
      return padded(code === null ? text! : String.fromCodePoint(code));
    }
  }
  const number = numberOf(value);
  const isFloat = "eEfFgG".includes(type);
  if (!isFloat && !"diuoxX".includes(type)) fail(`unsupported format character '${type}'`);
  if (number === null || "oxX".includes(type) && value instanceof Float) {
    if (value instanceof Undefined) fail(value.message);
    return fail(`%${type} format: a number is required, not ${typeName(value)}`);
  }
  const negative = number < 0 || Object.is(number, -0) && isFloat;
  let digits: string;
  let prefix = "";
  if (isFloat) {
    digits = Number.isFinite(number)
      ? floatDigits(Math.abs(number), type, precision, flags.includes("#"))
      : Number.isNaN(number)
      ? "nan"
      : "inf";
    if (!Number.isFinite(number) && type !== type.toLowerCase()) digits = digits.toUpperCase();
  } else {
    if (!Number.isFinite(number)) fail(`cannot convert float ${str(value)} to integer`);
    const base = type === "o" ? 8 : type === "x" || type === "X" ? 16 : 10;
    digits = Math.abs(int(Math.trunc(number))).toString(base);
    chargeText(precision ?? 0);
    digits = digits.padStart(precision ?? 0, "0");
    if (flags.includes("#") && base !== 10) prefix = type === "o" ? "0o" : "0x";
    if (type === "X") [digits, prefix] = [digits.toUpperCase(), prefix.toUpperCase()];
  }
  const sign = negative ? "-" : flags.includes("+") ? "+" : flags.includes(" ") ? " " : "";
  if (flags.includes("0") && !left) {
    return sign + prefix + pad(digits, width - sign.length - prefix.length, "0", ">");
  }
  return padded(sign + prefix + digits);
}

/** A `repr` in ASCII. */
function ascii(text: string): string {
  chargeText(text.length);
  return text.replace(/[^\p{ASCII}]/gu, (character) => {
    const code = character.codePointAt(0)!;
    const hex = code.toString(16);
    return code <= 0xff
      ? `\\x${hex}`
      : code <= 0xffff
      ? `\\u${hex.padStart(4, "0")}`
      : `\\U${hex.padStart(8, "0")}`;
  });
}
