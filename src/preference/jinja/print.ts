/** Python's `str()` and `repr()`. */
import { chargeText, deeper, step } from "./budget.ts";
import { UnsupportedError } from "./errors.ts";
import {
  Callable,
  Dict,
  DictView,
  Float,
  type Instance,
  Markup,
  Range,
  Stream,
  Tuple,
  Undefined,
  type Value,
} from "./values.ts";

/** @throws {UnsupportedError} where Python prints an address, which is another each time */
export function str(value: Value): string {
  if (typeof value === "string") return value;
  if (value instanceof Markup) return value.text;
  if (value instanceof Undefined) return "";
  return repr(value);
}

/** @throws {UnsupportedError} where Python prints an address, which is another each time */
export function repr(value: Value): string {
  if (value === null) return "None";
  switch (typeof value) {
    case "boolean":
      return value ? "True" : "False";
    case "number":
      return String(value);
    case "string":
      return quoted(value);
  }
  if (value instanceof Float) return floatText(value.value);
  if (Array.isArray(value)) return `[${list(value)}]`;
  if (value instanceof Tuple) return `(${list(value.items)}${value.items.length === 1 ? "," : ""})`;
  if (value instanceof Dict) return `{${dict(value)}}`;
  if (value instanceof DictView) return `dict_${value.kind}([${list(value)}])`;
  if (value instanceof Undefined) return "Undefined";
  if (value instanceof Markup) return `Markup(${quoted(value.text)})`;
  if (value instanceof Range) {
    return `range(${value.start}, ${value.stop}${value.step === 1 ? "" : `, ${value.step}`})`;
  }
  if (value instanceof Stream) throw new UnsupportedError(`printing a ${value.type}`);
  if (value instanceof Callable) {
    if (value.name.startsWith("<")) return value.name;
    throw new UnsupportedError(`printing ${value.name}`);
  }
  return (value as Instance).print();
}

function list(items: Iterable<Value>): string {
  return deeper(() => {
    let text = "";
    for (const item of items) text = joined(text, repr(item));
    return text;
  });
}

function dict(value: Dict): string {
  return deeper(() => {
    let text = "";
    for (const [key, item] of value.entries()) text = joined(text, `${repr(key)}: ${repr(item)}`);
    return text;
  });
}

function joined(text: string, part: string): string {
  step();
  chargeText(part.length + 2);
  return text === "" ? part : `${text}, ${part}`;
}

/** The shortest text that reads as the same float: with a point or an exponent. */
export function floatText(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (Object.is(value, -0)) return "-0.0";
  const [mantissa, exponentText] = value.toExponential().split("e") as [string, string];
  const exponent = Number(exponentText);
  if (exponent >= -4 && exponent < 16) {
    const plain = exponent < 0
      ? value.toFixed(Math.min(100, mantissa.replace(/[-.]/g, "").length - 1 - exponent))
      : String(value);
    return plain.includes(".") ? plain : `${plain}.0`;
  }
  return `${mantissa}e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

const NEEDS_ESCAPE = /[\\'\n\r\t]|(?! )[\p{C}\p{Z}]/u;
const TO_ESCAPE = new RegExp(NEEDS_ESCAPE.source, "gu");

/** Whether a character is printed as it is; unassigned ones of this Unicode version are not. */
export function isPrintable(text: string): boolean {
  return !/(?! )[\p{C}\p{Z}]/u.test(text);
}

function quoted(text: string): string {
  chargeText(text.length + 2);
  if (!NEEDS_ESCAPE.test(text)) return `'${text}'`;
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(TO_ESCAPE, (character) => {
    if (character === "'") return quote === "'" ? "\\'" : "'";
    return SHORT[character] ?? codeEscape(character);
  });
  chargeText(escaped.length);
  return quote + escaped + quote;
}

const SHORT: Readonly<Record<string, string>> = { "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

function codeEscape(character: string): string {
  const code = character.codePointAt(0)!;
  const hex = code.toString(16);
  if (code <= 0xff) return `\\x${hex.padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
}
