/**
 * The little that WGSL lacks for straight-line kernels.
 *
 * - `@unroll(i, 0, 4) { ... $i ... $(i / 2) ... }` repeats its body, because naga neither unrolls loops nor keeps a
 *   dynamically indexed array in registers.
 * - `@if (TRANSPOSED == 1) { ... } @else { ... }` keeps one of two bodies.
 * - `$NAME` and `$(expression)` are integers over loop variables and the kernel's constants.
 */

/** Integers that a shader text may name. */
export type Constants = Readonly<Record<string, number>>;

/**
 * Expands `@unroll`, `@if` and `$` in WGSL text.
 *
 * @throws {SyntaxError} on an unknown name, an unbalanced brace or a malformed directive
 * @example Four accumulators
 * ```ts
 * import assert from "node:assert/strict";
 * import { expandWgsl } from "./wgsl.ts";
 * const expanded = expandWgsl("@unroll(i, 0, 2) { var acc$i = 0.0; }", {});
 * assert.equal(expanded.replaceAll(/\s+/g, " ").trim(), "var acc0 = 0.0; var acc1 = 0.0;");
 * ```
 */
export function expandWgsl(text: string, constants: Constants): string {
  const out: string[] = [];
  render(new Parser(text).parts(), constants, out);
  return out.join("");
}

/** An integer over names. */
type Expression = (names: Constants) => number;

/** Text as it stands, an integer's place, or a directive with its bodies. */
type Part =
  | string
  | Expression
  | { readonly variable: string; readonly from: Expression; readonly to: Expression; readonly body: Part[] }
  | { readonly condition: Expression; readonly body: Part[]; readonly otherwise: Part[] };

function render(parts: readonly Part[], names: Constants, out: string[]): void {
  for (const part of parts) {
    if (typeof part === "string") out.push(part);
    else if (typeof part === "function") out.push(String(part(names)));
    else if ("condition" in part) render(part.condition(names) ? part.body : part.otherwise, names, out);
    else {
      const last = part.to(names);
      for (let i = part.from(names); i < last; i++) render(part.body, { ...names, [part.variable]: i }, out);
    }
  }
}

/** Reads a text once, so that a body that is repeated a hundred times is not read a hundred times: kernels start sooner. */
class Parser {
  #at = 0;

  constructor(private readonly text: string) {}

  /** What stands from here to the text's end; in a block, to the brace that closes it. */
  parts(inBlock = false): Part[] {
    const special = /\/\/[^\n]*|[{}]|@unroll\s*\(|@if\s*\(|\$\(|\$([A-Za-z][A-Za-z0-9]*)/g;
    const parts: Part[] = [];
    let depth = 0;
    let plain = this.#at;
    for (special.lastIndex = plain;; special.lastIndex = this.#at) {
      const match = special.exec(this.text);
      if (!match) {
        if (inBlock) throw new SyntaxError("Unbalanced { in WGSL text.");
        parts.push(this.text.slice(plain));
        return parts;
      }
      const [found, name] = match;
      this.#at = special.lastIndex;
      const closes = found === "}" && inBlock && depth === 0;
      if (found === "{") depth++;
      else if (found === "}" && !closes) depth--;
      else {
        parts.push(this.text.slice(plain, match.index));
        if (closes) return parts;
        // comments may mention the directives
        if (!found.startsWith("//")) {
          parts.push(name === undefined ? this.#directive(found) : expressionOf(name));
        }
        plain = this.#at;
      }
    }
  }

  #directive(found: string): Part {
    const inside = this.#parenthesis();
    if (found === "$(") return expressionOf(inside);
    if (found.startsWith("@unroll")) {
      const [variable, from, to] = inside.split(",").map((part) => part.trim());
      if (!variable || !from || !to) throw new SyntaxError(`@unroll(${inside}) needs (name, from, to).`);
      return { variable, from: expressionOf(from), to: expressionOf(to), body: this.#block() };
    }
    const body = this.#block();
    const otherwise = this.#follows(/\s*@else\b/y) ? this.#block() : [];
    return { condition: expressionOf(inside), body, otherwise };
  }

  #block(): Part[] {
    if (!this.#follows(/\s*\{/y)) throw new SyntaxError("A directive must be followed by { ... }.");
    return this.parts(true);
  }

  /** Goes past what a sticky expression matches here. @returns whether it does */
  #follows(expected: RegExp): boolean {
    expected.lastIndex = this.#at;
    if (!expected.test(this.text)) return false;
    this.#at = expected.lastIndex;
    return true;
  }

  /** Goes past the parenthesis whose opening has been read. @returns what stands in it */
  #parenthesis(): string {
    const start = this.#at;
    for (let depth = 1; depth > 0; this.#at++) {
      const character = this.text[this.#at];
      if (character === undefined) throw new SyntaxError("Unbalanced ( in WGSL text.");
      if (character === "(") depth++;
      else if (character === ")") depth--;
    }
    return this.text.slice(start, this.#at - 1);
  }
}

/** By rising strength. */
const OPERATORS: readonly Readonly<Record<string, (a: number, b: number) => number>>[] = [
  { "||": (a, b) => a || b },
  { "&&": (a, b) => a && b },
  { "==": (a, b) => +(a === b), "!=": (a, b) => +(a !== b) },
  { "<": (a, b) => +(a < b), ">": (a, b) => +(a > b), "<=": (a, b) => +(a <= b), ">=": (a, b) => +(a >= b) },
  { "+": (a, b) => a + b, "-": (a, b) => a - b },
  { "*": (a, b) => a * b, "/": (a, b) => Math.trunc(a / b), "%": (a, b) => a % b },
];

/** Integer expressions: || && == != < > <= >= + - * / % ( ), integers and names; / truncates. */
function expressionOf(text: string): Expression {
  const tokens = text.match(/\d+|[A-Za-z]\w*|\|\||&&|==|!=|<=|>=|\S/g) ?? [];
  let at = 0;
  const level = (n: number): Expression => {
    const operators = OPERATORS[n];
    if (!operators) return atom();
    let left = level(n + 1);
    for (let op = operators[tokens[at] ?? ""]; op; op = operators[tokens[at] ?? ""]) {
      at++;
      const [a, apply, b] = [left, op, level(n + 1)];
      left = (names) => apply(a(names), b(names));
    }
    return left;
  };
  const atom = (): Expression => {
    const token = tokens[at++] ?? "end";
    if (token === "(") {
      const inside = level(0);
      if (tokens[at++] !== ")") throw new SyntaxError(`Unbalanced ( in "${text}".`);
      return inside;
    }
    if (/^\d/.test(token)) return () => Number(token);
    return (names) => {
      const value = names[token];
      if (value === undefined) throw new SyntaxError(`"${token}" is not known in "${text}".`);
      return value;
    };
  };
  const expression = level(0);
  if (at < tokens.length) throw new SyntaxError(`Cannot read "${text}" as an integer expression.`);
  return expression;
}
