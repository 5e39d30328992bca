import { TemplateSyntaxError, UnsupportedError } from "./errors.ts";
import { isSpace, SPACE, strip } from "./text.ts";

/** A piece of the source: text, a name, a literal, an operator, or where a tag begins and ends. */
export interface Token {
  readonly type:
    | "data"
    | "name"
    | "string"
    | "integer"
    | "float"
    | "operator"
    | "block_begin"
    | "block_end"
    | "variable_begin"
    | "variable_end"
    | "eof";
  /** The text, without its quotes and escapes; a number's digits. */
  readonly value: string;
  /** Where it begins in the source, for messages. */
  readonly at: number;
}

const TAG = /\{[%{#]/g;
const RAW = new RegExp(`\\{%([-+]?)${SPACE}*raw${SPACE}*(?:-%\\}${SPACE}*|%\\})`, "y");
const END_RAW = new RegExp(`\\{%([-+]?)${SPACE}*endraw${SPACE}*(?:\\+%\\}|-%\\}${SPACE}*|%\\}\\n?)`, "g");
const END_BLOCK = new RegExp(`\\+%\\}|-%\\}${SPACE}*|%\\}\\n?`, "y");
const END_VARIABLE = new RegExp(`-\\}\\}${SPACE}*|\\}\\}`, "y");
const SPACES = new RegExp(`${SPACE}+`, "y");
const FLOAT = /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy;
const INTEGER = /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy;
const NAME = /[\p{ID_Continue}_]+/uy;
const IDENTIFIER = /^[\p{ID_Start}_]/u;
const STRING = /'[^'\\]*(?:\\[^][^'\\]*)*'|"[^"\\]*(?:\\[^][^"\\]*)*"/y;
const OPERATOR = /\/\/|\*\*|==|!=|>=|<=|[-+/*%~[\](){}><=.:|,;]/y;
const CLOSING: Readonly<Record<string, string>> = { "(": ")", "[": "]", "{": "}" };

/** Line of a place in the source, from 1. */
export function lineOf(source: string, at: number): number {
  let line = 1;
  for (let i = source.indexOf("\n"); i !== -1 && i < at; i = source.indexOf("\n", i + 1)) line++;
  return line;
}

/** The source as templates are read: line ends are line feeds, and a last one is taken away. */
export function normalized(source: string): string {
  return source.replace(/\r\n?/g, "\n").replace(/\n$/, "");
}

/**
 * Cuts a source into tokens, with `trim_blocks` and `lstrip_blocks`: the line feed behind a block tag or comment goes, and
 * so does white space between the beginning of its line and it. `-` in a tag takes all white space on its side, `+` none.
 *
 * @param source {@link normalized}
 * @throws {TemplateSyntaxError}
 */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  /** Whether what has been read ends a line. */
  let lineStarts = true;

  const match = (pattern: RegExp): string | null => {
    pattern.lastIndex = at;
    const found = pattern.exec(source);
    if (found === null) return null;
    at = pattern.lastIndex;
    return found[0];
  };
  const push = (type: Token["type"], value: string, from: number) => tokens.push({ type, value, at: from });
  const refuse = (message: string, where = at): never => {
    throw new TemplateSyntaxError(message, lineOf(source, where));
  };
  /** Text in front of a tag, less what the tag takes away. */
  const pushData = (from: number, to: number, sign: string, isVariable: boolean) => {
    let text = source.slice(from, to);
    if (sign === "-") text = strip(text, null, "right");
    else if (sign !== "+" && !isVariable) {
      const line = text.lastIndexOf("\n") + 1;
      if ((line > 0 || lineStarts) && isBlank(text, line)) text = text.slice(0, line);
    }
    if (text !== "") push("data", text, from);
  };

  while (at < source.length) {
    TAG.lastIndex = at;
    const found = TAG.exec(source);
    if (found === null) {
      push("data", source.slice(at), at);
      break;
    }
    const begin = found.index;
    RAW.lastIndex = begin;
    const raw = RAW.exec(source);
    if (raw !== null) {
      pushData(at, begin, raw[1]!, false);
      at = RAW.lastIndex;
      lineStarts = raw[0].endsWith("\n");
      END_RAW.lastIndex = at;
      const end = END_RAW.exec(source) ?? refuse("Missing end of raw directive", begin);
      pushData(at, end.index, end[1]!, false);
      at = END_RAW.lastIndex;
      lineStarts = end[0].endsWith("\n");
      continue;
    }
    const sign = /[-+]/.test(source[begin + 2] ?? "") ? source[begin + 2]! : "";
    const kind = found[0];
    pushData(at, begin, sign, kind === "{{");
    at = begin + 2 + sign.length;
    if (kind === "{#") {
      const end = source.indexOf("#}", at);
      if (end === -1) refuse("Missing end of comment tag", begin);
      at = end + 2;
      if (end > begin + 1 + sign.length && source[end - 1] === "-" && end - 1 >= begin + 2 + sign.length) {
        match(SPACES);
      } else if (source[at] === "\n" && !(source[end - 1] === "+" && end - 1 >= begin + 2 + sign.length)) {
        at++;
      }
    } else {
      push(kind === "{%" ? "block_begin" : "variable_begin", kind, begin);
      tag(kind === "{%");
    }
    lineStarts = source[at - 1] === "\n";
  }
  push("eof", "", source.length);
  return tokens;

  function tag(isBlock: boolean): void {
    const open: string[] = [];
    for (;;) {
      const from = at;
      let text: string | null;
      if (open.length === 0 && match(isBlock ? END_BLOCK : END_VARIABLE) !== null) {
        return void push(isBlock ? "block_end" : "variable_end", "", from);
      }
      if (match(SPACES) !== null) continue;
      if ((text = match(FLOAT)) !== null) push("float", text.replaceAll("_", ""), from);
      else if ((text = match(INTEGER)) !== null) push("integer", text.replaceAll("_", ""), from);
      else if ((text = match(NAME)) !== null) {
        if (!IDENTIFIER.test(text)) refuse("Invalid character in identifier", from);
        push("name", text, from);
      } else if ((text = match(STRING)) !== null) {
        push("string", unescape(text.slice(1, -1), (message) => refuse(message, from)), from);
      } else if ((text = match(OPERATOR)) !== null) {
        if (text in CLOSING) open.push(CLOSING[text]!);
        else if (text === ")" || text === "]" || text === "}") {
          const expected = open.pop();
          if (expected === undefined) refuse(`unexpected '${text}'`, from);
          if (expected !== text) refuse(`unexpected '${text}', expected '${expected}'`, from);
        }
        push("operator", text, from);
      } else if (at >= source.length) return; // the parser says what is missing
      else refuse(`unexpected character '${String.fromCodePoint(source.codePointAt(at)!)}'`);
    }
  }
}

function isBlank(text: string, from: number): boolean {
  for (let at = from; at < text.length; at++) if (!isSpace(text[at]!)) return false;
  return true;
}

const ESCAPES: Readonly<Record<string, string>> = {
  "\n": "",
  "\\": "\\",
  "'": "'",
  '"': '"',
  a: "\x07",
  b: "\b",
  f: "\f",
  n: "\n",
  r: "\r",
  t: "\t",
  v: "\v",
};
const DIGITS: Readonly<Record<string, number>> = { x: 2, u: 4, U: 8 };

/** A string literal's text. An escape that Python does not know stays as it is written. */
function unescape(text: string, refuse: (message: string) => never): string {
  if (!text.includes("\\")) return text;
  return text.replace(/\\(?:([0-7]{1,3})|([xuU])([\da-fA-F]*)|([^]))/gu, (whole, octal, kind, hex, other) => {
    if (octal !== undefined) return String.fromCharCode(parseInt(octal, 8));
    if (other === "N") throw new UnsupportedError("\\N{…} in a string");
    if (other !== undefined) return ESCAPES[other] ?? escapedOther(whole, other);
    const digits = DIGITS[kind]!;
    if (hex.length < digits) refuse(`truncated \\${kind} escape in a string`);
    const code = parseInt(hex.slice(0, digits), 16);
    if (code > 0x10ffff) refuse("illegal Unicode character in a string");
    return String.fromCodePoint(code) + hex.slice(digits);
  });
}

/** Python spells what is not ASCII as an escape before it reads escapes, so that `\é` becomes `\xe9`, spelled out. */
function escapedOther(whole: string, other: string): string {
  const code = other.codePointAt(0)!;
  if (code < 0x80) return whole;
  if (code <= 0xff) return `\\x${code.toString(16)}`;
  return code <= 0xffff
    ? `\\u${code.toString(16).padStart(4, "0")}`
    : `\\U${code.toString(16).padStart(8, "0")}`;
}
