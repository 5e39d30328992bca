/** Numbers as text and back, rounded as Python does: half to even, on the float's exact value. */
import { UnsupportedError } from "./errors.ts";
import { strip } from "./text.ts";

/** Digits behind the point that a float may be written with. */
const MOST_DIGITS = 400;

/** A float >= 0 as a fraction of whole numbers. */
function fraction(value: number): { numerator: bigint; denominator: bigint } {
  let power = 0;
  while (!Number.isInteger(value)) {
    value *= 2;
    power++;
  }
  return { numerator: BigInt(value), denominator: 2n ** BigInt(power) };
}

/** numerator / denominator, half to even. */
function divideRounded(numerator: bigint, denominator: bigint): bigint {
  const quotient = numerator / denominator;
  const twice = (numerator % denominator) * 2n;
  const up = twice > denominator || twice === denominator && quotient % 2n === 1n;
  return up ? quotient + 1n : quotient;
}

/** @throws {UnsupportedError} for more digits than anybody needs */
export function checkDigits(digits: number): void {
  if (Math.abs(digits) > MOST_DIGITS) throw new UnsupportedError(`a precision past ${MOST_DIGITS}`);
}

/** A finite float >= 0 with so many digits behind the point; negative: rounded before it. */
export function fixed(value: number, digits: number): string {
  checkDigits(digits);
  const { numerator, denominator } = fraction(value);
  const scale = 10n ** BigInt(Math.abs(digits));
  if (digits < 0) return String(divideRounded(numerator, denominator * scale) * scale);
  const text = String(divideRounded(numerator * scale, denominator)).padStart(digits + 1, "0");
  return digits === 0 ? text : `${text.slice(0, -digits)}.${text.slice(-digits)}`;
}

/** A finite float >= 0 as one digit, so many behind the point, and the exponent. */
export function scientific(value: number, digits: number): { mantissa: string; exponent: number } {
  checkDigits(digits);
  if (value === 0) return { mantissa: digits === 0 ? "0" : `0.${"0".repeat(digits)}`, exponent: 0 };
  const { numerator, denominator } = fraction(value);
  let exponent = Number(value.toExponential().split("e")[1]);
  const shift = digits - exponent;
  const scale = 10n ** BigInt(Math.abs(shift));
  let text = String(
    shift >= 0
      ? divideRounded(numerator * scale, denominator)
      : divideRounded(numerator, denominator * scale),
  );
  if (text.length > digits + 1) {
    exponent++;
    text = text.slice(0, -1);
  }
  return { mantissa: digits === 0 ? text : `${text[0]}.${text.slice(1)}`, exponent };
}

/** Like `%g`: the shorter of both, without zeros at the end unless they are kept. */
export function general(value: number, precision: number, keepZeros: boolean, pointZero = false): string {
  const digits = Math.max(1, precision);
  const { mantissa, exponent } = scientific(value, digits - 1);
  const trim = (text: string) => keepZeros || !text.includes(".") ? text : text.replace(/\.?0+$/, "");
  if (exponent < -4 || exponent >= digits) return trim(mantissa) + exponentText(exponent);
  // a float without a type always shows that it is one, and so switches a digit earlier
  if (pointZero && exponent === digits - 1 && !keepZeros) return trim(mantissa) + exponentText(exponent);
  const text = trim(fixed(value, digits - 1 - exponent));
  return pointZero && !text.includes(".") ? `${text}.0` : text;
}

export function exponentText(exponent: number): string {
  return `e${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;
}

/** `round(value, digits)` of a float. */
export function roundFloat(value: number, digits: number): number {
  if (!Number.isFinite(value) || value === 0 || digits > 323) return value;
  if (digits < -308) return value < 0 ? -0 : 0;
  const rounded = Number(fixed(Math.abs(value), digits));
  return value < 0 ? -rounded : rounded;
}

/** `round(value, digits)` of an int, for digits < 0. */
export function roundInt(value: number, digits: number): number {
  const rounded = Number(fixed(Math.abs(value), Math.max(digits, -400)));
  return value < 0 ? -rounded : rounded;
}

/** `float(text)`; null where Python refuses it. */
export function readFloat(text: string): number | null {
  const trimmed = asciiDigits(strip(text, null, "both"));
  const special = /^([+-]?)(inf|infinity|nan)$/i.exec(trimmed);
  if (special) {
    if (/^nan$/i.test(special[2]!)) return NaN;
    return special[1] === "-" ? -Infinity : Infinity;
  }
  const digits = "\\d+(?:_\\d+)*";
  const number = new RegExp(`^[+-]?(?:${digits}\\.?(?:${digits})?|\\.${digits})(?:[eE][+-]?${digits})?$`);
  return number.test(trimmed) ? Number(trimmed.replaceAll("_", "")) : null;
}

const PREFIXES: Readonly<Record<string, number>> = { x: 16, o: 8, b: 2 };

/** `int(text, base)`; null where Python refuses it, a number that is not safe where it is past 2^53. */
export function readInt(text: string, base: number): number | null {
  const trimmed = asciiDigits(strip(text, null, "both")).toLowerCase();
  const [, sign, prefix, rest] = /^([+-]?)(?:0([xob]))?(.*)$/s.exec(trimmed)!;
  let digits = rest!;
  if (prefix !== undefined) {
    if (base === PREFIXES[prefix] || base === 0) {
      base = PREFIXES[prefix]!;
      digits = digits.replace(/^_/, "");
    } else digits = `0${prefix}${digits}`;
  } else if (base === 0) {
    if (/^0[0_]*[1-9]/.test(digits)) return null;
    base = 10;
  }
  if (base < 2 || base > 36 || !/^[0-9a-z]+(?:_[0-9a-z]+)*$/.test(digits)) return null;
  let value = 0;
  for (const digit of digits.replaceAll("_", "")) {
    const number = parseInt(digit, 36);
    if (number >= base) return null;
    value = value * base + number;
  }
  return sign === "-" ? -value : value;
}

/** Digits of all scripts as 0 to 9. */
function asciiDigits(text: string): string {
  return text.replace(/[^\p{ASCII}]/gu, (character) => {
    const digit = digitOf(character);
    return digit === null ? character : String(digit);
  });
}

/** A decimal digit's value: those of a script follow each other, tens of them one behind the other. */
function digitOf(character: string): number | null {
  const isDigit = (code: number) => /^\p{Nd}$/u.test(String.fromCodePoint(code));
  const code = character.codePointAt(0)!;
  if (!isDigit(code)) return null;
  let zero = code;
  while (isDigit(zero - 1)) zero--;
  return (code - zero) % 10;
}
